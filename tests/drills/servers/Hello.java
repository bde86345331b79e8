import java.io.IOException;
import java.net.InetSocketAddress;
import java.nio.ByteBuffer;
import java.nio.channels.SelectionKey;
import java.nio.channels.Selector;
import java.nio.channels.ServerSocketChannel;
import java.nio.channels.SocketChannel;

/** An HTTP server as NIO's users write it: one thread, "selector". A request is what ends with an empty line. */
public final class Hello {
    private static final byte[] ANSWER = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello\n".getBytes();

    public static void main(String[] arguments) throws IOException {
        Selector selector = Selector.open();
        ServerSocketChannel listener = ServerSocketChannel.open();
        listener.bind(new InetSocketAddress("127.0.0.1", Integer.parseInt(arguments[0])));
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
            for (int at = 3; at < received.position(); at++) {
                if (received.get(at) == '\n' && received.get(at - 2) == '\n') {
                    client.write(ByteBuffer.wrap(ANSWER));
                }
            }
        } catch (IOException gone) {
            client.close();
        }
    }
}
