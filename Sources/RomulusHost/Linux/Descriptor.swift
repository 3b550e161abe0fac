import CLinux
import Glibc

/// A file descriptor that is closed when its owner lets go of it.
public struct Descriptor: ~Copyable, Sendable {
    public let raw: Int32

    public init(owning raw: Int32) { self.raw = raw }

    deinit { close(raw) }

    /// Gives the descriptor up without closing it.
    public consuming func release() -> Int32 {
        let raw = raw
        discard self
        return raw
    }

    /// Two ends of one channel. A tuple cannot hold them.
    @frozen public struct Pair: ~Copyable {
        public let one: Descriptor
        public let other: Descriptor

        fileprivate init(_ ends: [Int32]) {
            one = Descriptor(owning: ends[0])
            other = Descriptor(owning: ends[1])
        }
    }

    /// pipe2(2), close-on-exec, as large as the kernel allows up to `bytes`. `one` is read, `other` is written.
    public static func pipe(bytes: Int) throws(SystemError) -> Pair {
        var ends: [Int32] = [-1, -1]
        guard romulus_pipe(&ends) == 0 else { throw SystemError("pipe") }
        var size = min(bytes, 16 << 20)
        while size > 64 << 10, romulus_set_pipe_size(ends[1], Int32(size)) < 0 { size /= 2 }
        return Pair(ends)
    }

    /// A connected pair of AF_UNIX sockets that keep message boundaries, close-on-exec.
    public static func messageSockets() throws(SystemError) -> Pair {
        var ends: [Int32] = [-1, -1]
        let type = Int32(SOCK_SEQPACKET.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
        guard socketpair(AF_UNIX, type, 0, &ends) == 0 else { throw SystemError("socketpair") }
        return Pair(ends)
    }

    /// An AF_UNIX socket that keeps message boundaries, close-on-exec, not connected.
    public static func packetSocket() throws(SystemError) -> Descriptor {
        let raw = socket(AF_UNIX, Int32(SOCK_SEQPACKET.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard raw >= 0 else { throw SystemError("socket") }
        return Descriptor(owning: raw)
    }

    /// eventfd(2), close-on-exec, not blocking.
    public static func event() throws(SystemError) -> Descriptor {
        let raw = eventfd(0, Int32(EFD_CLOEXEC | EFD_NONBLOCK))
        guard raw >= 0 else { throw SystemError("eventfd") }
        return Descriptor(owning: raw)
    }
}

extension Descriptor {
    /// Of an eventfd: whoever polls it wakes.
    public func signal() { DescriptorIO.signal(event: raw) }

    /// Of an eventfd: what was signalled since the last time.
    @discardableResult
    public func drain() -> UInt64 {
        var mark: UInt64 = 0
        return Glibc.read(raw, &mark, 8) == 8 ? mark : 0
    }
}
