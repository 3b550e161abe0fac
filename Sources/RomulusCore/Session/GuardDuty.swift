/// What the guard owes the guest when the `xl` that it was forked from dies, or stands still.
///
///     watching ──the run is over──▶ relieved
///         └──xl has gone──▶ orphaned, until the guard exits
///
/// The guard is a process of its own for the whole run, whatever becomes of the save and its helper. It sees `xl`'s death at once,
/// as the end of the socket between them, and holds a copy of the link: the backup sees the link's end only when the guard has
/// exited, which is the last thing it does. That `xl` stands still shows in the lease (`PrimarySession.watchdogDeadline`), which it
/// then renews no more.
public struct GuardDuty: Sendable {
    /// Whether the backup may have a replica that runs when the link ends.
    public enum Replica: Int64, Sendable {
        case none = 0
        /// What libxl writes, or has written, may complete the first epoch there.
        case possible = 1
        /// `xl`'s word: none will run, and the guest goes on here.
        case ruledOut = 2
    }

    public enum Event: Equatable, Sendable {
        /// `xl` has gone, or is about to, and whatever becomes of the guest is done.
        case runIsOver
        /// It was renewed in time no more, and is `xl`'s no more.
        case leaseWasTaken
        case xlHasGone(Replica, isGuestFrozen: Bool)
        /// The answer to `pauseGuest`.
        case guestPaused(Bool)
    }

    public enum Action: Equatable, Sendable {
        case pauseGuest
        /// Should `xl` go on after all, it undoes the pause.
        case noteFreeze
        /// If it is suspended; when the save helper, which may be at work on it, has gone too.
        case resumeGuest
        /// What is held of its output, and whatever else this run has left in its way.
        case releaseOutput
        case log(LogLine)
        /// At once: with the guard goes this host's hold on the link.
        case exit
    }

    private enum State { case watching, relieved, orphaned }

    private let domain: UInt32
    private var state = State.watching

    public init(domain: UInt32) { self.domain = domain }

    /// Somebody must look after the guest if `xl` dies.
    public var isWatching: Bool { state == .watching }

    /// To be performed in order, before the next event.
    public mutating func handle(_ event: Event) -> [Action] {
        switch event {
        case .runIsOver:
            guard isWatching else { return [] }
            state = .relieved
            return [.exit]
        case .leaseWasTaken:
            return isWatching ? [.pauseGuest] : []
        case .xlHasGone(let replica, let isGuestFrozen):
            guard isWatching else { return [] }
            state = .orphaned
            return switch replica {
            case .none: goOn("before there was a replica")
            case .possible: handOver(isGuestFrozen)
            case .ruledOut: goOn("when no replica could run any more")
            }
        case .guestPaused(let isPaused):
            return state == .orphaned ? handedOver(isPaused) : stoodStill(isPaused)
        }
    }

    /// The backup takes over: this copy must not run, and its output stays held. One pause is enough, and is undone by one
    /// `xl unpause`.
    private func handOver(_ isGuestFrozen: Bool) -> [Action] { isGuestFrozen ? handedOver(true) : [.pauseGuest] }

    private func handedOver(_ isPaused: Bool) -> [Action] {
        let line =
            isPaused
            ? "xl remus was killed: the backup takes over; the copy here is paused: remove it with xl destroy \(domain) once the"
                + " guest runs there"
            : "xl remus was killed and the copy here could not be paused: stop it, the backup takes over"
        return [.log(.error(line)), .exit]
    }

    /// Nobody else has the guest, and what is held is its own.
    private func goOn(_ moment: String) -> [Action] {
        [
            .resumeGuest, .releaseOutput,
            .log(.error("xl remus was killed \(moment): the guest goes on here, unprotected")), .exit,
        ]
    }

    private func stoodStill(_ isPaused: Bool) -> [Action] {
        let text = "xl remus does not run (stopped, or stuck), and"
        guard isPaused else {
            let line =
                "\(text) the copy here could not be frozen: stop it with xl pause \(domain), the backup takes over"
            return [.log(.error(line))]
        }
        return [.noteFreeze, .log(.warning("\(text) the backup takes over: the copy here is frozen"))]
    }
}
