/// What the save helper owes the guest when the `xl` above it dies, or stands still.
///
///     watching ──the save is over──▶ relieved
///         └──xl has gone──▶ orphaned, until the helper exits
///
/// The helper sees `xl`'s death at once, as the end of the socket between them, and holds a copy of the link: the backup sees the
/// link's end only when the helper has exited, which is the last thing it does. That `xl` stands still shows in the lease
/// (`PrimarySession.watchdogDeadline`), which it then renews no more.
public struct HelperDuty: Sendable {
    public enum Event: Equatable, Sendable {
        /// What libxl writes from now on may complete the first epoch at the backup.
        case replicaBecomesPossible
        /// `xl`'s word: no replica will run.
        case guestGoesOn
        case saveIsOver
        /// It was renewed in time no more, and is `xl`'s no more.
        case leaseWasTaken
        /// With every order read that it has given.
        case xlHasGone(isGuestFrozen: Bool)
        /// The answer to `pauseGuest`.
        case guestPaused(Bool)
    }

    public enum Action: Equatable, Sendable {
        case pauseGuest
        /// Should `xl` go on after all, it undoes the pause.
        case noteFreeze
        /// If it is suspended.
        case resumeGuest
        /// What is held of its output, and whatever else this run has left in its way.
        case releaseOutput
        case log(LogLine)
        /// At once: with the helper goes this host's hold on the link.
        case exit
    }

    private enum State { case watching, relieved, orphaned }

    private let domain: UInt32
    private var state = State.watching
    private var isReplicaPossible = false

    public init(domain: UInt32) { self.domain = domain }

    /// Somebody must look after the guest if `xl` dies.
    public var isWatching: Bool { state == .watching }

    /// To be performed in order, before the next event.
    public mutating func handle(_ event: Event) -> [Action] {
        switch event {
        case .replicaBecomesPossible:
            isReplicaPossible = true
        case .guestGoesOn:
            isReplicaPossible = false
        case .saveIsOver:
            if isWatching { state = .relieved }
        case .leaseWasTaken:
            return [.pauseGuest]
        case .xlHasGone(let isGuestFrozen):
            guard isWatching else { return [] }
            state = .orphaned
            return isReplicaPossible ? handOver(isGuestFrozen) : goOn
        case .guestPaused(let isPaused):
            return state == .orphaned ? handedOver(isPaused) : stoodStill(isPaused)
        }
        return []
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
    private var goOn: [Action] {
        [
            .resumeGuest, .releaseOutput,
            .log(.error("xl remus was killed before there was a replica: the guest goes on here, unprotected")), .exit,
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
