<?php
// A worker. It creates its group, with a policy, if there is none:
//     php worker.php http://127.0.0.1:8080/v1/streams/jobs/groups/mailers w1
//     curl http://127.0.0.1:8080/v1/streams/jobs/entries -d to=alice
[, $group, $consumer] = $argv;

function call(string $verb, array $body): array
{
    global $group;
    $http = ['method' => 'POST', 'header' => 'Content-Type: application/json', 'content' => json_encode($body),
             'timeout' => 70, 'ignore_errors' => true];
    $answer = @file_get_contents("$group/$verb", false, stream_context_create(['http' => $http]));
    if ($answer === false) throw new RuntimeException(error_get_last()['message']);
    if (!str_contains($http_response_header[0], ' 200')) throw new RuntimeException($answer);
    return json_decode($answer, true);
}

function work(array $fields): void
{
    echo 'mail to ' . ($fields['to'] ?? throw new DomainException('nobody to mail to')) . "\n";
}

// A `lease` is refused for a group without a policy.
$read = ['count' => 10, 'wait' => '20s', 'lease' => '30s', 'create' => true, 'policy' => ['max_deliveries' => 5]];
while (true) {
    try {
        foreach (call('read', ['consumer' => $consumer] + $read)['entries'] as $entry) {
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
        if (str_contains($error->getMessage(), '"retryable":false')) exit(1);
        sleep(1);
    }
}
