import RomulusCore

/// The save helper, as far as its reports tell.
struct HelperView {
    private let control: Int32
    private(set) var isHere = true
    private(set) var isOurs = false
    /// From before the guest is suspended until it runs again.
    private(set) var isCheckpointing = false
    /// Of the checkpoint that was begun last.
    private(set) var process: Int32?
    /// It waits for whoever has paused the guest.
    private(set) var isGuestPaused = false
    private(set) var watch: EpochWatch
    /// A checkpoint has, for too long.
    private(set) var hasStoodStill = false

    init(control: Int32, watch: EpochWatch) {
        self.control = control
        self.watch = watch
    }

    /// What to wait for; -1 where it is gone.
    var descriptor: Int32 { isHere ? control : -1 }

    static let foreign =
        "the save helper knows nothing of Romulus; install the one of the same Xen as this xl, or start xl by"
        + " romulus-activate's launcher"

    /// One that is not ours says nothing.
    var mayHaveSuspended: Bool { isCheckpointing || !isOurs }

    func tell(_ order: HelperControl.Order) { _ = HelperControl.send(order, on: control) }

    /// - Parameter staged: the last epoch of which everything has been written.
    mutating func receive(staged: Epoch) -> HelperControl.Received<HelperControl.Report> {
        let received = HelperControl.receiveReport(from: control)
        switch received {
        case .message(.suspending(_, let process)):
            isOurs = true
            isCheckpointing = true
            self.process = process
            watch.began(at: .now)
        case .message(.paused(let isPaused)):
            isGuestPaused = isPaused
        case .message(.suspended):
            watch.saved(at: .now)
        case .message(.resumed(let times)):
            isCheckpointing = false
            if staged >= times.epoch { watch.ended() } else { watch.moved(at: .now) }
        case .closed:
            isHere = false
        case .message(.guestTaken), .nothing:
            break
        }
        return received
    }

    /// The guest was resumed by others.
    mutating func guestWasResumed() { isCheckpointing = false }

    // MARK: Whether the checkpoint under way gets on

    mutating func streamMoved() { watch.moved(at: .now) }

    mutating func checkpointEnded() {
        if !isCheckpointing { watch.ended() }
    }

    /// - Parameter waitsForOthers: for whoever decides, or for the link.
    /// - Returns: why the run is to end, where it is.
    mutating func look(at guest: GuestPort, waitsForOthers: Bool, _ log: Log) -> String? {
        if waitsForOthers || isGuestPaused { watch.moved(at: .now) }
        guard watch.isDue(at: .now), let standing = guest.standing() else { return nil }
        switch watch.look(standing, at: .now) {
        case .wait:
            return nil
        case .say(let text):
            log.warning(text)
            return nil
        case .end(let why):
            hasStoodStill = true
            return why
        }
    }
}
