import CLinux
import Glibc

/// Anonymous memory that the host backs only where it has been touched.
public struct MappedMemory: ~Copyable {
    public let bytes: UnsafeMutableRawBufferPointer

    public init(byteCount: Int) throws(SystemError) {
        let rounded = (max(byteCount, 1) + 4095) & ~4095
        let address = mmap(
            nil, rounded, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
        guard let address, address != MAP_FAILED else { throw SystemError("mmap") }
        bytes = UnsafeMutableRawBufferPointer(start: address, count: rounded)
    }

    deinit { munmap(bytes.baseAddress, bytes.count) }

    /// MADV_DONTNEED_LOCKED.
    private static let dontNeedLocked: Int32 = 24

    /// Gives one part of some mapped memory back to the host; it reads as zeroes afterwards. Whole pages only.
    public static func discard(_ part: UnsafeMutableRawBufferPointer) {
        let byteCount = part.count & ~4095
        // Where memory is locked it is refused (Linux 5.18 and later have another name for it).
        if madvise(part.baseAddress, byteCount, MADV_DONTNEED) == 0 { return }
        if madvise(part.baseAddress, byteCount, Self.dontNeedLocked) == 0 { return }
        munlock(part.baseAddress, byteCount)
        madvise(part.baseAddress, byteCount, MADV_DONTNEED)
    }
}
