import java.io.IOException;
import java.net.InetSocketAddress;
import java.nio.ByteBuffer;
import java.nio.channels.SelectionKey;
import java.nio.channels.Selector;
import java.nio.channels.ServerSocketChannel;
import java.nio.channels.SocketChannel;

/**
 * A server as NIO's users write it: one thread, "selector", waits for ever. `Nio line PORT` says "pong" to each line,
 * `Nio http PORT` says "hello" to each request, which is what ends with an empty line.
 */
public final class Nio {
    private static byte[] answer = "pong\n".getBytes();
    private static boolean http;

    public static void main(String[] arguments) throws IOException {
        http = arguments[0].equals("http");
        if (http) {
            answer = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello\n".getBytes();
        }
        Selector selector = Selector.open();
        ServerSocketChannel listener = ServerSocketChannel.open();
        listener.bind(new InetSocketAddress("127.0.0.1", Integer.parseInt(arguments[1])));
        listener.configureBlocking(false);
        listener.register(selector, SelectionKey.OP_ACCEPT);
        new Thread(() -> serve(selector, listener), "selector").start();
    }

    private static void serve(Selector selector, ServerSocketChannel listener) {
        while (true) {
            try {
                selector.select();
                for (SelectionKey key : selector.selectedKeys()) {
                    if (key.isAcceptable()) {
                        accept(selector, listener);
                    } else {
                        answer(key);
                    }
                }
            } catch (IOException error) {
                throw new java.io.UncheckedIOException(error);
            }
            selector.selectedKeys().clear();
        }
    }

    private static void accept(Selector selector, ServerSocketChannel listener) throws IOException {
        SocketChannel client = listener.accept();
        if (client != null) {
            client.configureBlocking(false);
            client.register(selector, SelectionKey.OP_READ);
        }
    }

    private static void answer(SelectionKey key) throws IOException {
        SocketChannel client = (SocketChannel) key.channel();
        ByteBuffer received = ByteBuffer.allocate(4096);
        try {
            if (client.read(received) < 0) {
                client.close();
                return;
            }
            for (int at = 0; at < received.position(); at++) {
                if (isEnd(received, at)) {
                    client.write(ByteBuffer.wrap(answer));
                }
            }
        } catch (IOException gone) {
            client.close();
        }
    }

    private static boolean isEnd(ByteBuffer received, int at) {
        return received.get(at) == '\n' && (!http || (at >= 2 && received.get(at - 2) == '\n'));
    }
}
