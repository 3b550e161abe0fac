import CLinux
import Glibc
import RomulusCore

/// The end of the primary's lease, as whole words in memory that `xl`'s relay and the save helper share: should `xl` stand still (stopped,
/// or stuck), the helper freezes the guest in its place.
public final class SharedLease: @unchecked Sendable {
    /// Word 0: the moment by which the guest must stand still unless it is renewed, 0 while there is none. Word 1: how often
    /// the helper has frozen the guest. Word 2: whether the relay has.
    private let words: UnsafeMutablePointer<Int64>
    private let file: Descriptor
    private static let byteCount = 24

    public convenience init() throws(SystemError) {
        let raw = romulus_shared_memory(Self.byteCount)
        guard raw >= 0 else { throw SystemError("memfd_create") }
        try self.init(file: Descriptor(owning: raw))
    }

    /// The helper's view of what it has inherited.
    public init(file: consuming Descriptor) throws(SystemError) {
        let address = mmap(nil, Self.byteCount, PROT_READ | PROT_WRITE, MAP_SHARED, file.raw, 0)
        guard let address, address != MAP_FAILED else { throw SystemError("mmap") }
        words = address.bindMemory(to: Int64.self, capacity: 3)
        self.file = file
    }

    deinit { munmap(words, Self.byteCount) }

    public var descriptor: Int32 { file.raw }

    /// Both processes read one clock.
    public var end: MonotonicTime? {
        let nanoseconds = romulus_load(words)
        return nanoseconds == 0 ? nil : MonotonicTime(nanoseconds: nanoseconds)
    }

    public func set(_ end: MonotonicTime?) { romulus_store(words, end?.nanoseconds ?? 0) }

    // MARK: The helper's

    /// Takes a lease that has ended for itself, unless it was renewed in the same moment.
    public func take(_ end: MonotonicTime) -> Bool { romulus_replace(words, end.nanoseconds, 0) }

    /// It has frozen the guest, and not before it has.
    public func noteFreeze() { romulus_add(words + 1, 1) }

    /// Whether the guest stands still for one of the two already.
    public var isGuestFrozen: Bool { hasFreezes || romulus_load(words + 2) != 0 }

    // MARK: The relay's

    public var hasFreezes: Bool { romulus_load(words + 1) > 0 }

    /// How often the helper has frozen the guest since this was asked last.
    public func takeFreezes() -> Int64 { romulus_exchange(words + 1, 0) }

    /// After it has frozen the guest, and before it thaws it.
    public func noteRelay(hasFrozen: Bool) { romulus_store(words + 2, hasFrozen ? 1 : 0) }
}
