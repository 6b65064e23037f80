// A client by openapi-generator, `java` with the library `native`.
import com.fasterxml.jackson.databind.DeserializationFeature;
import java.lang.reflect.Method;
import java.util.Arrays;
import java.util.Map;
import org.openapitools.client.ApiClient;
import org.openapitools.client.api.EntriesApi;
import org.openapitools.client.api.GroupsApi;
import org.openapitools.client.api.WorkApi;
import org.openapitools.client.model.*;

class Main {
    public static void main(String[] args) throws Exception {
        ApiClient client = new ApiClient();
        // Otherwise every answer of an append matches all three schemas.
        client.setObjectMapper(client.getObjectMapper().enable(DeserializationFeature.FAIL_ON_UNKNOWN_PROPERTIES));
        client.updateBaseUri(System.getenv("GATEWAY"));
        String stream = "java", group = "workers";
        EntriesApi entries = new EntriesApi(client);
        WorkApi work = new WorkApi(client);
        EntryInput entry = new EntryInput().fields(Map.of("user", new ValueInput("alice"), "total", new ValueInput(9.5d)));
        AppendAnswer answer = call(entries, "appendEntries", stream, new EntriesInput(entry));
        AppendedEntry appended = (AppendedEntry) answer.getActualInstance();
        EntriesPage page = call(entries, "readEntries", stream, "0");
        Entry read = page.getEntries().get(0);
        check(read.getId().equals(appended.getId()), read);
        check(read.getFields().get("user").getActualInstance().equals("alice"), read);

        // Without a body, the client would send `null`.
        call(new GroupsApi(client), "createGroup", stream, group, null, null, new GroupInput());
        Deliveries delivered = call(work, "readAsConsumer", stream, group, new ReadCall().consumer("w1"));
        AckCall ids = new AckCall().ids(delivered.getEntries().stream().map(Delivery::getId).toList());
        SettledAll settled = call(work, "ackEntries", stream, group, ids);
        check(settled.getAcknowledged() == 1, settled);
    }

    // Calls an operation with its first arguments and null for the rest, however many there are.
    @SuppressWarnings("unchecked")
    static <T> T call(Object api, String operation, Object... first) throws Exception {
        for (Method method : api.getClass().getMethods()) {
            Class<?>[] types = method.getParameterTypes();
            if (method.getName().equals(operation) && types[types.length - 1] != Map.class) {
                return (T) method.invoke(api, Arrays.copyOf(first, types.length));
            }
        }
        throw new AssertionError("no operation " + operation);
    }

    static void check(boolean right, Object told) {
        if (!right) throw new AssertionError(told);
    }
}
