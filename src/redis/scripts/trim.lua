return trim(KEYS[1], unpack(ARGV))
