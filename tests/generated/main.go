// A client by openapi-generator, `go`.
package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"gateway"
)

func main() {
	configuration := gateway.NewConfiguration()
	configuration.Servers = gateway.ServerConfigurations{{URL: os.Getenv("GATEWAY")}}
	client, ctx, stream, group := gateway.NewAPIClient(configuration), context.Background(), "go", "workers"

	name, total := "alice", 9.5
	entry := gateway.NewEntryInput()
	entry.Fields = map[string]gateway.ValueInput{"user": {String: &name}, "total": {Float64: &total}}
	appended, _, err := client.EntriesAPI.AppendEntries(ctx, stream).
		EntriesInput(gateway.EntryInputAsEntriesInput(entry)).Execute()
	check(err)
	page, _, err := client.EntriesAPI.ReadEntries(ctx, stream).After("0").Execute()
	check(err)
	expect(page.Entries[0].Id, appended.AppendedEntry.Id)
	expect(*page.Entries[0].Fields["user"].String, name)

	// Without a body, the client would send `null`.
	_, _, err = client.GroupsAPI.CreateGroup(ctx, stream, group).GroupInput(*gateway.NewGroupInput()).Execute()
	check(err)
	delivered, _, err := client.WorkAPI.ReadAsConsumer(ctx, stream, group).ReadCall(*gateway.NewReadCall("w1")).Execute()
	check(err)
	ids := gateway.NewAckCall()
	ids.Ids = []string{delivered.Entries[0].Id}
	settled, _, err := client.WorkAPI.AckEntries(ctx, stream, group).AckCall(*ids).Execute()
	check(err)
	expect(settled.GetAcknowledged(), int64(1))

	// The call reads the whole body, so the subscription ends at an id.
	_, events, _ := client.EventsAPI.FollowEvents(ctx, stream).After("0").End(ids.Ids[0]).Execute()
	var body strings.Builder
	_, err = fmt.Fprint(&body, events.Body)
	check(err)
	expect(strings.Contains(body.String(), name), true)
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func expect(found, wanted any) {
	if found != wanted {
		panic(fmt.Sprintf("%v, not %v", found, wanted))
	}
}
