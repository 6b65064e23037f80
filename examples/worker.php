<?php
// A worker: php worker.php http://127.0.0.1:8080/v1/streams/jobs/groups/mailers w1
[, $group, $consumer] = $argv;

function call(string $verb, array $body): array
{
    global $group;
    $http = ['method' => 'POST', 'header' => 'Content-Type: application/json', 'content' => json_encode($body), 'timeout' => 70];
    $answer = @file_get_contents("$group/$verb", false, stream_context_create(['http' => $http]));
    if ($answer === false) throw new RuntimeException(error_get_last()['message']);
    return json_decode($answer, true);
}

function work(array $fields): void
{
    echo 'mail to ' . ($fields['to'] ?? throw new DomainException('nobody to mail to')) . "\n";
}

while (true) {
    try {
        foreach (call('read', ['consumer' => $consumer, 'count' => 10, 'wait' => '20s'])['entries'] as $entry) {
            $receipts = ['receipts' => [$entry['receipt']]];
            try {
                work($entry['fields']);
            } catch (DomainException $error) { // the entry is delivered again, according to the policy of the group
                call('nack', $receipts + ['reason' => $error->getMessage()]);
                continue;
            }
            call('ack', $receipts);
        }
    } catch (RuntimeException $error) { // unacknowledged entries are delivered again when their leases end
        fwrite(STDERR, $error->getMessage() . "\n");
        sleep(1);
    }
}
