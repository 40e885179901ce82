import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;

/** Java's own client with its defaults, which offer HTTP/2 by an upgrade (h2c). */
class Ask {
    public static void main(String[] arguments) throws Exception {
        var body = new String(System.in.readAllBytes());
        var request = HttpRequest.newBuilder(URI.create(arguments[0]))
            .header("Content-Type", "application/json")
            .POST(HttpRequest.BodyPublishers.ofString(body)).build();
        var client = HttpClient.newHttpClient();
        for (int n = 0; n < 3; n++) {
            System.out.println(client.send(request, HttpResponse.BodyHandlers.ofString()).statusCode());
        }
    }
}
