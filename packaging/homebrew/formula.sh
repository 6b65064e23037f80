#!/bin/sh
# Prints the Homebrew formula of a release. Usage: formula.sh VERSION FILE-WITH-SHA256SUMS
set -eu

version=$1 sums=$2
sum() {
    found=$(awk -v name="streamgate-$version-$1.tar.gz" '$2 == name { print $1 }' "$sums")
    [ -n "$found" ] || { echo "formula.sh: no checksum of $1" >&2; exit 1; }
    echo "$found"
}
url() { echo "https://github.com/${REPOSITORY:-OWNER/streamgate}/releases/download/v$version/streamgate-$version-$1.tar.gz"; }
mac=$(sum aarch64-apple-darwin) arm=$(sum aarch64-unknown-linux-gnu) intel=$(sum x86_64-unknown-linux-gnu)

cat <<END
class Streamgate < Formula
  desc "HTTP gateway for Redis Streams"
  homepage "https://github.com/${REPOSITORY:-OWNER/streamgate}"
  version "$version"
  license any_of: ["MIT", "Apache-2.0"]

  on_macos do
    depends_on arch: :arm64
    url "$(url aarch64-apple-darwin)"
    sha256 "$mac"
  end

  on_linux do
    on_arm do
      url "$(url aarch64-unknown-linux-gnu)"
      sha256 "$arm"
    end
    on_intel do
      url "$(url x86_64-unknown-linux-gnu)"
      sha256 "$intel"
    end
  end

  # \`streamgate dev\` runs a Redis of its own.
  depends_on "redis" => :recommended

  def install
    bin.install "streamgate"
  end

  service do
    run [opt_bin/"streamgate", "dev", "--data-dir", var/"streamgate"]
    keep_alive true
    log_path var/"log/streamgate.log"
    error_log_path var/"log/streamgate.log"
  end

  test do
    assert_match version.to_s, shell_output("#{bin}/streamgate --version")
    assert_match "openapi", shell_output("#{bin}/streamgate openapi")
  end
end
END
