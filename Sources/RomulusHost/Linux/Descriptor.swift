import CLinux
import Glibc
import RomulusCore

/// An errno with the call that gave it.
public struct SystemError: Error, Equatable, Sendable, CustomStringConvertible {
    public let call: String
    public let code: Int32

    public init(_ call: String, code: Int32 = errno) {
        self.call = call
        self.code = code
    }

    public var description: String { "\(call): \(String(cString: strerror(code)))" }
}

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

    /// dup(2), close-on-exec.
    public static func duplicate(_ raw: Int32) throws(SystemError) -> Descriptor {
        let copy = fcntl(raw, F_DUPFD_CLOEXEC, 3)
        guard copy >= 0 else { throw SystemError("dup") }
        return Descriptor(owning: copy)
    }

    /// Two ends of one channel. A tuple cannot hold them.
    public struct Pair: ~Copyable {
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

/// What a non-blocking read or write came to.
public enum Transfer: Equatable, Sendable {
    case bytes(Int)
    case wouldBlock
    case endOfFile
    case failed(SystemError)
}

/// The verbs on descriptors that somebody else owns. None of them blocks once `setNonBlocking` was called.
public enum DescriptorIO {
    /// - Returns: the status flags from before.
    public static func setNonBlocking(_ raw: Int32) -> Int32 {
        let flags = romulus_status_flags(raw)
        if flags >= 0 { _ = romulus_set_status_flags(raw, flags | O_NONBLOCK) }
        return flags
    }

    public static func restoreFlags(_ raw: Int32, _ flags: Int32) {
        if flags >= 0 { _ = romulus_set_status_flags(raw, flags) }
    }

    /// As `Descriptor.signal`.
    public static func signal(event raw: Int32) {
        var one: UInt64 = 1
        _ = Glibc.write(raw, &one, 8)
    }

    public static func setCloseOnExec(_ raw: Int32, _ closes: Bool) {
        _ = fcntl(raw, F_SETFD, closes ? FD_CLOEXEC : 0)
    }

    /// read(2) into up to two pieces.
    public static func read(
        _ raw: Int32, into parts: (UnsafeMutableRawBufferPointer, UnsafeMutableRawBufferPointer)
    ) -> Transfer {
        var vectors = (
            iovec(iov_base: parts.0.baseAddress, iov_len: parts.0.count),
            iovec(iov_base: parts.1.baseAddress, iov_len: parts.1.count)
        )
        let count = withUnsafePointer(to: &vectors) { pointer in
            pointer.withMemoryRebound(to: iovec.self, capacity: 2) { vector in retrying { readv(raw, vector, 2) } }
        }
        if count > 0 { return .bytes(count) }
        return count == 0 ? .endOfFile : failure("read")
    }

    public static func read(_ raw: Int32, into part: UnsafeMutableRawBufferPointer) -> Transfer {
        read(raw, into: (part, UnsafeMutableRawBufferPointer(start: nil, count: 0)))
    }

    /// write(2) from up to three pieces, in their order.
    public static func write(
        _ raw: Int32, _ one: UnsafeRawBufferPointer, _ two: UnsafeRawBufferPointer, _ three: UnsafeRawBufferPointer
    ) -> Transfer {
        func vector(_ part: UnsafeRawBufferPointer) -> iovec {
            iovec(iov_base: UnsafeMutableRawPointer(mutating: part.baseAddress), iov_len: part.count)
        }
        var vectors = (vector(one), vector(two), vector(three))
        let count = withUnsafePointer(to: &vectors) { pointer in
            pointer.withMemoryRebound(to: iovec.self, capacity: 3) { vector in retrying { writev(raw, vector, 3) } }
        }
        return count >= 0 ? .bytes(count) : failure("write")
    }

    public static func write(_ raw: Int32, _ part: UnsafeRawBufferPointer) -> Transfer {
        let nothing = UnsafeRawBufferPointer(start: nil, count: 0)
        return write(raw, part, nothing, nothing)
    }

    private static func failure(_ call: String) -> Transfer {
        errno == EAGAIN ? .wouldBlock : .failed(SystemError(call))
    }

    private static func retrying(_ call: () -> Int) -> Int {
        while true {
            let result = call()
            if result >= 0 || errno != EINTR { return result }
        }
    }
}

/// poll(2) over a handful of descriptors, by name.
public struct PollSet {
    private var entries: [pollfd] = []

    public init() {}

    public mutating func reset() { entries.removeAll(keepingCapacity: true) }

    /// A negative descriptor is never ready. Errors and hang-ups are always reported.
    @discardableResult
    public mutating func add(_ raw: Int32, reading: Bool = false, writing: Bool = false) -> Int {
        let events = (reading ? POLLIN : 0) | (writing ? POLLOUT : 0)
        entries.append(pollfd(fd: raw, events: Int16(events), revents: 0))
        return entries.count - 1
    }

    /// Waits until something is ready, or `deadline`.
    public mutating func wait(until deadline: MonotonicTime?) {
        var timeout: Int32 = -1
        if let deadline {
            let left = deadline - MonotonicTime.now
            timeout = left <= 0 ? 0 : Int32(clamping: (left + 999_999) / 1_000_000)
        }
        // An interrupted wait looks like a timeout; the caller's loop looks at its clock anyway.
        if poll(&entries, nfds_t(entries.count), timeout) < 0 {
            for index in entries.indices { entries[index].revents = 0 }
        }
    }

    public func isReady(_ index: Int) -> Bool { entries[index].revents != 0 }
    public func isBroken(_ index: Int) -> Bool { Int32(entries[index].revents) & (POLLERR | POLLHUP | POLLNVAL) != 0 }
}

extension MonotonicTime {
    /// CLOCK_BOOTTIME: monotonic, and it counts the time that the host itself was suspended, in which others did not wait.
    public static var now: MonotonicTime {
        var time = timespec()
        clock_gettime(CLOCK_BOOTTIME, &time)
        return MonotonicTime(nanoseconds: Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec))
    }
}
