import RomulusCore

/// The guest's output as the primary's relay has it: held, let out or dropped, and what of it was lost told.
struct GuestOutput {
    private let buffer: OutputBuffer?
    private let log: Log
    /// As of the last look.
    private(set) var held = HeldOutput()
    /// What is held is let out, or dropped, when it is known whether the guest runs.
    private var isUndecided = false
    /// Not said yet.
    private var lostPackets = 0
    private var lossLimiter = MessageLimiter(intervalNanoseconds: 10_000_000_000)

    /// - Parameter buffer: nil where nothing is held.
    init(_ buffer: OutputBuffer?, log: Log) {
        self.buffer = buffer
        self.log = log
    }

    /// Readable when the guest's devices may have changed.
    var changeDescriptor: Int32 { buffer?.changeDescriptor ?? -1 }

    /// What is held now.
    var present: HeldOutput { buffer?.held ?? held }

    // MARK: Epoch by epoch

    // What the session is to hear where the buffer fails.

    func linksChanged() -> PrimarySession.Event? {
        unheld("held") { buffer in try buffer.linksChanged() }
    }

    func linksAreQuiet() { buffer?.linksAreQuiet() }

    func holdEpoch() -> PrimarySession.Event? {
        unheld("held") { buffer in try buffer.holdEpoch() }
    }

    func releaseEpoch() -> PrimarySession.Event? {
        unheld("released") { buffer in try buffer.releaseEpoch() }
    }

    private func unheld(_ what: String, _ step: (OutputBuffer) throws -> Void) -> PrimarySession.Event? {
        guard let buffer else { return nil }
        do {
            try step(buffer)
            return nil
        } catch {
            return .outputUnheld("the guest's output cannot be \(what): \(error)")
        }
    }

    mutating func look() {
        guard let buffer else { return }
        let before = held.droppedPackets
        held = buffer.held
        lostPackets += held.droppedPackets - before
    }

    mutating func tellOfLoss() {
        guard lostPackets > 0, lossLimiter.passes(at: .now) else { return }
        log.warning(
            "the network buffer was full and \(lostPackets) packets of the guest were dropped"
                + " (\(held.droppedPackets) so far): raise netbuf_limit_kib in /etc/xen/romulus.conf, or shorten the"
                + " period (-i)")
        lostPackets = 0
    }

    // MARK: At the end

    func open() { buffer?.releaseEverything() }
    func drop() { buffer?.dropEverything() }
    mutating func leaveUndecided() { isUndecided = true }

    mutating func decide(guestRuns: Bool) {
        guard isUndecided else { return }
        isUndecided = false
        if guestRuns { open() } else { drop() }
    }
}
