import CLinux
import Glibc
import RomulusCore

/// What `xl`, its save helper and its guard share, as whole words in memory that outlives each of them: the end of the primary's
/// lease, who has frozen the guest, and what there is to be done if `xl` is killed.
public final class SharedLease: @unchecked Sendable {
    /// Each in an eight-byte word.
    private enum Word: Int, CaseIterable {
        /// The moment by which the guest must stand still unless it is renewed, 0 while there is none.
        case end
        /// How often the guard has frozen the guest.
        case freezes
        /// Whether the relay has.
        case isFrozenByRelay
        /// Whether the guard is about to freeze it.
        case isTaken
        /// `GuardDuty.Replica`
        case replica
        case isRunOver
    }

    private let words: UnsafeMutablePointer<Int64>
    private let file: Descriptor
    private static let byteCount = Word.allCases.count * MemoryLayout<Int64>.stride

    public convenience init() throws(SystemError) {
        let raw = romulus_shared_memory(Self.byteCount)
        guard raw >= 0 else { throw SystemError("memfd_create") }
        try self.init(file: Descriptor(owning: raw))
    }

    /// The view of whoever has inherited it.
    public init(file: consuming Descriptor) throws(SystemError) {
        let address = mmap(nil, Self.byteCount, PROT_READ | PROT_WRITE, MAP_SHARED, file.raw, 0)
        guard let address, address != MAP_FAILED else { throw SystemError("mmap") }
        words = address.bindMemory(to: Int64.self, capacity: Word.allCases.count)
        self.file = file
    }

    deinit { munmap(words, Self.byteCount) }

    private subscript(word: Word) -> UnsafeMutablePointer<Int64> { words + word.rawValue }

    public var descriptor: Int32 { file.raw }

    /// All processes read one clock.
    public var end: MonotonicTime? {
        let nanoseconds = romulus_load(self[.end])
        return nanoseconds == 0 ? nil : MonotonicTime(nanoseconds: nanoseconds)
    }

    public func set(_ end: MonotonicTime?) { romulus_store(self[.end], end?.nanoseconds ?? 0) }

    // MARK: The helper's

    /// What libxl writes from now on may complete the first epoch at the backup. Where `xl` has decided, that stands.
    public func replicaBecomesPossible() {
        _ = romulus_replace(self[.replica], GuardDuty.Replica.none.rawValue, GuardDuty.Replica.possible.rawValue)
    }

    // MARK: The guard's

    /// Takes a lease that has ended for itself, unless it was renewed in the same moment. `settle` is to follow.
    public func take(_ end: MonotonicTime) -> Bool {
        romulus_store(self[.isTaken], 1)
        return romulus_replace(self[.end], end.nanoseconds, 0)
    }

    /// What was to be done for a lease that it has taken, or has not, is done.
    public func settle() { romulus_store(self[.isTaken], 0) }

    /// It has frozen the guest, and not before it has.
    public func noteFreeze() { romulus_add(self[.freezes], 1) }

    /// Whether the guest stands still for one of the two already.
    public var isGuestFrozen: Bool { hasFreezes || romulus_load(self[.isFrozenByRelay]) != 0 }

    public var replica: GuardDuty.Replica { GuardDuty.Replica(rawValue: romulus_load(self[.replica])) ?? .possible }

    public var isRunOver: Bool { romulus_load(self[.isRunOver]) != 0 }

    // MARK: The relay's

    public var hasFreezes: Bool { romulus_load(self[.freezes]) > 0 }

    /// How often the guard has frozen the guest since this was asked last.
    public func takeFreezes() -> Int64 { romulus_exchange(self[.freezes], 0) }

    /// With the lease at its end for good: a guard that was about to freeze the guest has done so after this. One that stands still
    /// itself is not waited for long.
    public func awaitGuard() {
        let deadline = MonotonicTime.now + .nanoseconds(milliseconds: 1000)
        while romulus_load(self[.isTaken]) != 0, MonotonicTime.now < deadline { usleep(500) }
    }

    /// After it has frozen the guest, and before it thaws it.
    public func noteRelay(hasFrozen: Bool) { romulus_store(self[.isFrozenByRelay], hasFrozen ? 1 : 0) }

    /// What is known of the replica from now on; the helper's word does not undo it.
    public func decideReplica(mayRun: Bool) {
        romulus_store(self[.replica], (mayRun ? GuardDuty.Replica.possible : .ruledOut).rawValue)
    }

    /// What there is to be done from now on until the run is over.
    public func note(_ fate: PrimarySession.Fate) {
        switch fate {
        case .goesOn: decideReplica(mayRun: false)
        case .hasLeft(.unknown), .yields: break
        // Nobody has it, and nobody is to.
        case .hasLeft: endRun()
        }
    }

    /// Whatever becomes of the guest is done: the guard has no duty when `xl` goes.
    public func endRun() { romulus_store(self[.isRunOver], 1) }
}
