// Calls a provider's API with the agent's token, from Java 17: java Users.java PORT PASSWORD_FILE CONNECTION URL
// Java's HttpClient cannot use a Unix socket, so the agent listens on a port.

import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;

public class Users {
    private final HttpClient http = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
    private final String agent;
    private final String password;
    private final String connection;

    Users(String port, Path passwordFile, String connection) throws IOException {
        this.agent = "http://127.0.0.1:" + port;
        this.password = Files.readString(passwordFile).strip();
        this.connection = connection;
    }

    public static void main(String[] arguments) throws Exception {
        var users = new Users(arguments[0], Path.of(arguments[1]), arguments[2]);
        System.out.println(users.get(URI.create(arguments[3])).body());
    }

    /**
     * The API's response. After a 401 the token is reported, and the request sent again with another one, at most twice:
     * the provider may have revoked the next one, too, if the broker had it already.
     */
    HttpResponse<String> get(URI url) throws IOException, InterruptedException {
        var headers = headers();
        var response = call(url, headers);
        for (int replay = 0; replay < 2 && response.statusCode() == 401 && report(headers); replay++) {
            headers = headers();
            response = call(url, headers);
        }
        return response;
    }

    /** The headers to send, one on each line. Ask before each request: the agent keeps the token. */
    private String headers() throws IOException, InterruptedException {
        var response = ask(request("/v1/headers/" + connection).GET());
        if (response.statusCode() != 200) {
            throw new IOException("no token: " + response.body()); // a problem document; it holds no secret
        }
        return response.body();
    }

    /** Whether there is another token. The rejected one is the last word of its header. */
    private boolean report(String headers) throws IOException, InterruptedException {
        var words = headers.strip().split(" ");
        var body = "{\"token\": \"" + words[words.length - 1] + "\"}";
        return ask(request("/v1/tokens/" + connection + "/rejected").POST(BodyPublishers.ofString(body))).statusCode() == 200;
    }

    private HttpResponse<String> call(URI url, String headers) throws IOException, InterruptedException {
        var request = HttpRequest.newBuilder(url).timeout(Duration.ofSeconds(30));
        headers.lines().map(line -> line.split(": ", 2)).forEach(parts -> request.setHeader(parts[0], parts[1]));
        return ask(request);
    }

    private HttpRequest.Builder request(String path) {
        var url = URI.create(agent + path);
        return HttpRequest.newBuilder(url).timeout(Duration.ofSeconds(60)).setHeader("X-Agent-Password", password);
    }

    private HttpResponse<String> ask(HttpRequest.Builder request) throws IOException, InterruptedException {
        return http.send(request.build(), BodyHandlers.ofString());
    }
}
