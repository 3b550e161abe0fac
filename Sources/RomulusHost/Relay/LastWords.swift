import RomulusCore

/// Whoever moves the link's bytes, and hears what they come to.
protocol LinkMover: AnyObject {
    /// What libxl has written goes to staging.
    func drain()
    func send()
    func listen()
    /// Nothing that is heard changes anything any more.
    var hasEnded: Bool { get }
}

/// What is still said on the primary's link when the run has ended, and whether the backup is known to have heard it.
final class LastWords {
    private let link: PrimaryLink
    private let farewellNanoseconds: Int64
    private let stockNanoseconds: Int64
    private var isQueued = false
    /// By a farewell of the backup's.
    private var isAnswered = false
    private var wasStockFarewellSent = false
    /// By the link, for its arbiter does not.
    var isBackupToBeTold = false

    init(_ link: PrimaryLink, _ configuration: PrimaryRelay.Configuration) {
        self.link = link
        farewellNanoseconds = configuration.farewellNanoseconds
        stockNanoseconds = configuration.session.patienceNanoseconds
    }

    /// A stock backup was sent one that it cannot misunderstand.
    var wereHeard: Bool { wasStockFarewellSent || (isQueued && isAnswered) }

    func queued(_ message: Message) {
        if case .farewell = message { isQueued = true }
    }

    func received(_ message: Message) {
        if case .farewell = message { isAnswered = true }
    }

    /// To a stock backup goes all that has been written, as without us: the last epoch may be whole.
    func passOnStream(by mover: LinkMover) {
        let deadline = MonotonicTime.now + farewellNanoseconds
        while link.isUsable, !link.isFramed, !mover.hasEnded, MonotonicTime.now < deadline {
            mover.drain()
            guard link.hasWork else { return }
            link.awaitRoom(until: deadline)
            mover.send()
        }
    }

    /// Finishes the frame under way, and waits until the backup has answered a farewell with its own.
    ///
    /// - Parameter hasReplica: an epoch has been acknowledged.
    func say(after end: PrimarySession.End?, hasReplica: Bool, by mover: LinkMover) {
        guard link.isFramed else { return sayToStock(after: end, hasReplica: hasReplica, by: mover) }
        let isBackupLost = end?.isBackupLost ?? false
        let deadline = MonotonicTime.now + (isBackupLost ? Self.hopelessNanoseconds : farewellNanoseconds)
        writeOut(until: deadline, by: mover)
        guard isQueued else { return }
        while link.isUsable, link.back.isOpen, !isAnswered, MonotonicTime.now < deadline {
            var polls = PollSet()
            polls.add(link.back.descriptor, reading: true)
            polls.wait(until: deadline)
            mover.listen()
        }
    }

    /// The guest may be suspended, and waits for the end of this: a backup that was silent so far gets a word, not a wait.
    private static let hopelessNanoseconds: Int64 = 50_000_000

    /// A stock backup takes over at every end of its stream, whatever the reason: where its replica must not run, it is sent
    /// what it must refuse.
    private func sayToStock(after end: PrimarySession.End?, hasReplica: Bool, by mover: LinkMover) {
        guard end?.isReplicaUnwanted ?? false, link.back.descriptor >= 0 else { return }
        let deadline = MonotonicTime.now + stockNanoseconds
        // What is under way first.
        writeOut(until: deadline, by: mover)
        guard link.isUsable, link.isIdle, let words = link.stockFarewell else { return }
        link.queue(record: words)
        writeOut(until: deadline, by: mover)
        wasStockFarewellSent = link.isUsable && link.isIdle && hasReplica
    }

    private func writeOut(until deadline: MonotonicTime, by mover: LinkMover) {
        while link.hasWork, MonotonicTime.now < deadline {
            link.awaitRoom(until: deadline)
            mover.send()
        }
    }

    /// A backup that still asks its arbiter, and is not told by that, hears the admin's word when the link is back. Until the
    /// link has ended; an interrupt ends `xl`.
    func repeatUntilHeard(_ log: Log, by mover: LinkMover) {
        guard isBackupToBeTold, isQueued, !isAnswered, link.isUsable, link.back.isOpen else { return }
        let flags = link.becomeNonBlocking()
        log.note("waiting until the backup has heard it; Ctrl-C ends the waiting, and changes nothing here")
        while link.isUsable, link.back.isOpen, !isAnswered {
            var polls = PollSet()
            polls.add(link.back.descriptor, reading: true)
            polls.add(link.hasWork ? link.descriptor : -1, writing: true)
            polls.wait(until: nil)
            if link.hasWork { mover.send() }
            mover.listen()
        }
        link.restore(flags)
    }
}
