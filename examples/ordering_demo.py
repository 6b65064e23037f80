#!/usr/bin/env python3
"""Shows that entries of a key keep their order while workers are killed:

    python3 ordering_demo.py http://127.0.0.1:8080/v1/streams/demo
"""
import collections, json, os, random, signal, subprocess, sys, time, urllib.request

stream = sys.argv[1]
group = f"{stream}/groups/demo"
POLICY = {"lease": "1s", "order_by": "account"}


def call(url, **body):
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=70) as answer:
        return json.load(answer)


def work():
    while True:
        entries = call(f"{group}/read", consumer=f"w{os.getpid()}", count=5, wait="1s")["entries"]
        for entry in entries:
            time.sleep(0.01)
            # One write, so that a worker that is killed leaves no half line.
            line = f"{entry['fields']['account']} {entry['fields']['n']}\n"
            os.write(1, line.encode())
            call(f"{group}/ack", receipts=[entry["receipt"]])


def main(accounts=10, count=20, workers=4):
    for n in range(count):
        batch = [{"fields": {"account": f"a{account}", "n": n}} for account in range(accounts)]
        call(f"{stream}/entries", entries=batch)
    request = urllib.request.Request(group, json.dumps({"policy": POLICY}).encode(), {"Content-Type": "application/json"}, method="PUT")
    urllib.request.urlopen(request).close()
    read, write = os.pipe()
    start = lambda: subprocess.Popen([sys.executable, __file__, stream, "work"], stdout=write)
    running, killed = [start() for _ in range(workers)], 0
    seen, text = collections.defaultdict(list), ""
    try:
        while sum(len(set(numbers)) for numbers in seen.values()) < accounts * count:
            *lines, text = (text + os.read(read, 65536).decode()).split("\n")
            for line in lines:
                account, n = line.split()
                seen[account].append(int(n))
            if random.random() < 0.1:
                victim = running.pop(0)
                victim.send_signal(signal.SIGKILL)
                victim.wait()
                running.append(start())
                killed += 1
    finally:
        for worker in running:
            worker.kill()
            worker.wait()
    # An entry whose worker was killed before it acknowledged comes again, before the next of its account.
    wrong = [account for account, numbers in seen.items() if numbers != sorted(numbers)]
    total = sum(map(len, seen.values()))
    print(f"{total} deliveries of {accounts * count} entries, {killed} workers killed, {len(wrong)} accounts out of order")
    sys.exit(bool(wrong))


work() if sys.argv[2:] else main()
