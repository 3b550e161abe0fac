import CLinux
import CNetlink
import Glibc

/// Hears of network devices that come, go and are renamed (RTNLGRP_LINK), and of queues and filters that somebody takes
/// away or puts before ours (RTNLGRP_TC).
final class NetworkMonitor {
    private let socket: OpaquePointer

    init() throws(NetworkBufferError) {
        guard let socket = nl_socket_alloc() else { throw Self.failure("out of memory") }
        self.socket = socket
        var code = nl_connect(socket, NETLINK_ROUTE)
        if code == 0 { code = nl_socket_add_membership(socket, Int32(RTNLGRP_LINK.rawValue)) }
        if code == 0 { code = nl_socket_add_membership(socket, Int32(RTNLGRP_TC.rawValue)) }
        if code == 0 { code = nl_socket_set_nonblocking(socket) }
        // Each command to a plug, of this run and of every other, is told as a queue that is new.
        if code == 0 { romulus_ignore_messages(nl_socket_get_fd(socket), UInt16(RTM_NEWQDISC)) }
        guard code == 0 else { throw Self.failure(String(cString: nl_geterror(code))) }
    }

    deinit { nl_socket_free(socket) }

    private static func failure(_ reason: String) -> NetworkBufferError {
        .refused(what: "watching the network devices", device: "this host", reason: reason)
    }

    var descriptor: Int32 { nl_socket_get_fd(socket) }

    /// Whether anything was said. It is not looked at: the devices themselves are.
    func drain() -> Bool {
        var bytes = [UInt8](repeating: 0, count: 8192)
        var hasNews = false
        while recv(descriptor, &bytes, bytes.count, Int32(MSG_DONTWAIT)) > 0 || errno == ENOBUFS || errno == EINTR {
            hasNews = true
        }
        return hasNews
    }
}
