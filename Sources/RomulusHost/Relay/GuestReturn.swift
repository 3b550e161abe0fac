import Glibc
import RomulusCore

/// Brings the guest back after a save, by way of whoever has libxl, and sees to it that libxl comes back from the save: it waits
/// for minutes for a guest that does not follow the order to suspend, and for ever for a helper that hangs.
struct GuestReturn {
    private let meeting: SaveReturn
    private let guest: GuestPort
    private let log: Log
    private let endingNanoseconds: Int64
    private let hangingNanoseconds: Int64
    private(set) var hasSaveReturned = false
    /// Since when the session has waited for a save that has not returned.
    private var hasAwaitedSaveSince: MonotonicTime?
    /// Whoever has libxl is at it.
    private var isResuming = false
    private var hasLostDeviceModel = false

    init(_ meeting: SaveReturn, _ guest: GuestPort, _ configuration: PrimaryRelay.Configuration, _ log: Log) {
        self.meeting = meeting
        self.guest = guest
        self.log = log
        endingNanoseconds = configuration.endingNanoseconds
        hangingNanoseconds = configuration.hangingNanoseconds
    }

    mutating func saveReturned() { hasSaveReturned = true }

    /// Said once. The save would fail when it next needs one, and where the guest hangs already, not even that.
    mutating func hasJustLostDeviceModel() -> Bool {
        guard !hasLostDeviceModel, !guest.isServed() else { return false }
        hasLostDeviceModel = true
        return true
    }

    // MARK: While the session waits for the guest

    mutating func begin() { hasAwaitedSaveSince = nil }

    /// One that no checkpoint has suspended runs, or is somebody else's; and none is resumed before the save is over, so that
    /// none can suspend it any more.
    ///
    /// - Returns: whether it runs; nil while that is not known.
    mutating func advance(_ helper: HelperView) -> Bool? {
        guard !isResuming else { return nil }
        guard guest.isServed() else { return false }
        guard hasSaveReturned else { return hastenSave(helper) ? true : nil }
        guard helper.mayHaveSuspended else { return true }
        isResuming = true
        meeting.wantGuest()
        return nil
    }

    /// Whether the guest runs.
    mutating func takeAnswer() -> Bool {
        isResuming = false
        return meeting.takeAnswer()
    }

    /// - Returns: whether the guest is known to run.
    private mutating func hastenSave(_ helper: HelperView) -> Bool {
        let since = hasAwaitedSaveSince ?? .now
        hasAwaitedSaveSince = since
        let waited = MonotonicTime.now - since
        let isOverdue = waited >= endingNanoseconds
        if helper.hasStoodStill || isOverdue, [.runs, .paused].contains(guest.standing()) { return true }
        guard waited >= patienceNanoseconds(with: helper) else { return false }
        hasAwaitedSaveSince = .now
        if helper.isHere, let process = helper.process { kill(process) }
        return false
    }

    // MARK: When the run has ended

    /// libxl may be about to wait for a guest that will not run here again, or do so already: until its save has returned it is
    /// told that it need not.
    mutating func giveUpGuest(after end: PrimarySession.End?) {
        let mustNotRun: Bool
        switch end?.fate {
        case .hasLeft where end?.cause == .guestLeft(.taken): return
        case .yields: mustNotRun = true
        case .hasLeft: mustNotRun = false
        case .goesOn, nil: return
        }
        let deadline = MonotonicTime.now + Self.givingUpNanoseconds
        while !hasSaveReturned, MonotonicTime.now < deadline {
            guest.giveUp(mustNotRun)
            awaitSave(until: .now + .nanoseconds(milliseconds: 100))
        }
    }

    /// libxl's own limits: a minute for the order to be taken, and one for the suspension.
    private static let givingUpNanoseconds: Int64 = 125_000_000_000

    mutating func awaitSave(with helper: HelperView) {
        let deadline = MonotonicTime.now + patienceNanoseconds(with: helper)
        while !hasSaveReturned, MonotonicTime.now < deadline { awaitSave(until: deadline) }
    }

    private mutating func awaitSave(until deadline: MonotonicTime) {
        var polls = PollSet()
        let returned = polls.add(meeting.returnDescriptor, reading: true)
        polls.wait(until: deadline)
        hasSaveReturned = polls.isReady(returned)
    }

    /// One that hangs keeps libxl, and with it whoever would resume the guest. One that waits for a guest to suspend will end.
    func endHanging(_ helper: HelperView) {
        let isWaiting = helper.watch.isSuspending && guest.standing() != .suspended
        guard !hasSaveReturned, helper.isHere, !isWaiting, let process = helper.process else { return }
        kill(process)
    }

    private func patienceNanoseconds(with helper: HelperView) -> Int64 {
        helper.hasStoodStill ? hangingNanoseconds : endingNanoseconds
    }

    private func kill(_ process: Int32) {
        log.warning("the save helper hangs: it is killed, so that xl goes on and resumes the guest if it is suspended")
        _ = Glibc.kill(process, SIGKILL)
    }
}
