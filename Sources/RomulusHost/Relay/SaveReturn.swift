import RomulusCore
import Synchronization

/// Where the thread that has libxl, its save over, serves the relay's until the run has ended: libxl is the first one's alone, and
/// whether the guest is to be resumed is the second one's to say.
final class SaveReturn: Sendable {
    private let returned: Descriptor
    private let wanted: Descriptor
    private let resumed: Descriptor
    private let isWanted = Atomic(false)
    private let isBack = Atomic(false)
    private let isOver = Atomic(false)

    init() throws(SystemError) {
        returned = try Descriptor.event()
        wanted = try Descriptor.event()
        resumed = try Descriptor.event()
    }

    /// libxl's save has returned.
    ///
    /// - Parameter resumeGuest: called when the relay wants it; whether the guest runs.
    func serve(_ resumeGuest: () -> Bool) {
        returned.signal()
        while !isOver.load(ordering: .acquiring) {
            var wish = PollSet()
            wish.add(wanted.raw, reading: true)
            wish.wait(until: nil)
            wanted.drain()
            guard isWanted.exchange(false, ordering: .acquiringAndReleasing) else { continue }
            isBack.store(resumeGuest(), ordering: .releasing)
            resumed.signal()
        }
    }

    // MARK: The relay's

    /// Readable from when the save has returned.
    var returnDescriptor: Int32 { returned.raw }
    /// Readable when the wish has been followed.
    var answerDescriptor: Int32 { resumed.raw }

    func wantGuest() {
        isWanted.store(true, ordering: .releasing)
        wanted.signal()
    }

    func wantNothing() { isWanted.store(false, ordering: .releasing) }

    /// Whether the guest runs.
    func takeAnswer() -> Bool {
        resumed.drain()
        return isBack.load(ordering: .acquiring)
    }

    func end() {
        isOver.store(true, ordering: .releasing)
        wanted.signal()
    }
}
