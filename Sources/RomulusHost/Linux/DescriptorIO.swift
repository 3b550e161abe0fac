import CLinux
import Glibc

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
