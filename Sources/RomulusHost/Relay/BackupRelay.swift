import RomulusCore

/// Stands between the link and libxl on the backup, on one thread of its own.
///
///     ssh ──▶ link ──▶ frames ──▶ stock stream ──▶ epoch buffers ──▶ pipe ──▶ libxl and its helper
///     ssh ◀── back channel ◀── session
///
/// The part up to the first complete checkpoint streams through; from then on libxl sees whole epochs only.
public final class BackupRelay: @unchecked Sendable {
    /// What libxl restores from, in place of the link.
    public let streamForLibxl: Descriptor

    private let configuration: Configuration
    private let log: Log
    private let signals: Descriptor
    private let restoreReturn: RestoreReturn
    private let linkDescriptor: Int32
    private let backDescriptor: Int32

    // Owned by the relay's thread from `start` to `join`.
    private let ports: Ports
    private let link: IncomingLink
    private let pages: PageDecoding?
    private let epochs: EpochAssembly
    private var stream = IncomingStream()
    private var feed: Feed
    private var answers: BackAnswers
    private var session: BackupSession
    private var end: BackupSession.End?
    private var desk: DecisionDesk
    private var isArbitrated = false
    private var farewell: BackupFarewell?
    private var account: ReplicaAccount
    private var decidedAt = MonotonicTime.now
    private var closedAt = MonotonicTime.now
    private var polls = PollSet()
    private var thread: Thread?

    /// - Parameters:
    ///   - link: the stream from the primary. Stays the caller's.
    ///   - back: the back channel, or -1.
    public init(
        link: Int32, back: Int32, configuration: Configuration, ports: Ports, log: Log
    ) throws(SystemError) {
        let stream = try Descriptor.pipe(bytes: 1 << 20)
        streamForLibxl = stream.one
        feed = Feed(stream.other.release())
        signals = try Descriptor.event()
        restoreReturn = try RestoreReturn()
        let slots = configuration.session.pageSlots
        pages = slots > 0 ? try PageDecoding(slots: slots) : nil
        self.link = try IncomingLink(link)
        epochs = try EpochAssembly(limitBytes: configuration.epochLimitBytes, sinks: ports.sinks)

        linkDescriptor = link
        backDescriptor = back
        self.configuration = configuration
        account = ReplicaAccount(configuration, metrics: ports.metrics, log: log)
        self.ports = ports
        desk = DecisionDesk(admin: ports.admin, arbiter: nil, log: log)
        self.log = log
        answers = BackAnswers(descriptor: back)
        session = BackupSession(configuration: configuration.session, now: .now)
    }

    /// Where a signal handler leaves its mark (romulus_catch_signals).
    public var signalEvent: Int32 { signals.raw }

    public func start() throws(SystemError) {
        thread = try Thread(name: "romulus-relay") { [self] in run() }
    }

    /// Waits until the primary's stream has begun, or will not.
    ///
    /// libxl does not come back from a stream that ends before its header, and leaves the domain that it has created.
    public func waitForStream() -> Bool { restoreReturn.waitForStream() }

    /// Ends the relay after libxl's restore has returned. The primary hears of one that failed; of the other when it runs
    /// (`Outcome.farewell`).
    public func join(isRestored: Bool) -> Outcome {
        restoreReturn.restoreReturned(isRestored)
        thread?.join()
        return Outcome(
            end: end ?? .discard(cause: "the restore ended early"), lastEpoch: session.lastEpoch,
            lastHeardAt: account.lastHeardAt, decidedAt: decidedAt, closedAt: closedAt, isArbitrated: isArbitrated,
            farewell: farewell)
    }

    // MARK: The thread

    private func run() {
        Urgency.raise(to: configuration.realtimePriority, log)
        let linkFlags = DescriptorIO.setNonBlocking(linkDescriptor)
        let backFlags = backDescriptor >= 0 ? DescriptorIO.setNonBlocking(backDescriptor) : -1
        feed.becomeNonBlocking()

        while end == nil {
            turn()
            if stream.hasPassedHeader, end == nil { restoreReturn.announceStream(true) }
        }
        restoreReturn.announceStream(false)
        if case .failOver? = end { handOnTheRest() }
        closedAt = .now
        feed.close()
        tellOfFailover()
        answers.writeOut(until: .now + configuration.farewellNanoseconds)
        desk.arbiter?.close()
        account.close()

        DescriptorIO.restoreFlags(linkDescriptor, linkFlags)
        if backDescriptor >= 0 { DescriptorIO.restoreFlags(backDescriptor, backFlags) }
    }

    private func tellOfFailover() {
        guard case .failOver(let cause)? = end else { return }
        let isRestored = restoreReturn.waitForReplica()
        guard answers.isUsable, let failure = session.farewell(afterRestore: false, cause: cause),
            let success = session.farewell(afterRestore: true, cause: cause)
        else { return }
        guard isRestored else { return perform([.send(failure)]) }
        farewell = answers.leave(
            ifItRuns: success, ifItDoesNot: failure, nanoseconds: configuration.farewellNanoseconds)
    }

    private func turn() {
        // What has arrived already may wait for a buffer; go on with it before anything else.
        let isListening = canTakeIn && !session.isSuspecting
        session.setListening(isListening, now: .now)

        polls.reset()
        let signalIndex = polls.add(signals.raw, reading: true)
        let returnIndex = polls.add(restoreReturn.returnDescriptor, reading: true)
        let linkIndex = polls.add(isListening || canHearFarewell ? linkDescriptor : -1, reading: true)
        let feedIndex = polls.add(feed.descriptor, writing: epochs.waiting != nil)
        let backIndex = polls.add(answers.waitingDescriptor, writing: true)
        let verdictIndex = polls.add(desk.verdictDescriptor, reading: true)
        let adminIndex = polls.add(desk.adminDescriptor, reading: true)
        let suspicionIndex = polls.add(ports.suspicion?.descriptor ?? -1, reading: true)
        ports.sinks.add(to: &polls)
        polls.wait(until: nextDeadline)

        if polls.isReady(returnIndex) || (polls.isBroken(feedIndex) && epochs.waiting == nil) {
            return tell(.restorerFailed)
        }
        lookAtSinks()
        if polls.isReady(linkIndex) { isListening ? receive() : hearFarewell() }
        if polls.isReady(feedIndex) { handOn() }
        if polls.isReady(backIndex) { answers.write() }
        if polls.isReady(verdictIndex) { hearVerdict() }
        if polls.isReady(adminIndex) { hearAdmin() }
        if polls.isReady(signalIndex), let name = signals.takeSignalName() { tell(.stopRequested(signalName: name)) }
        if polls.isReady(suspicionIndex) || ports.suspicion?.deadline != nil { hearSecondOpinion() }
        if isListening, canTakeIn { readWhatIsLate() }
        perform(session.timePassed(now: .now))
        account.isNow(state, epoch: session.lastEpoch)
    }

    private func tell(_ event: BackupSession.Event) { perform(session.handle(event, now: .now)) }

    /// This thread may have overslept: what has come meanwhile, a farewell perhaps, is read before the primary is given up.
    private func readWhatIsLate() {
        guard let deadline = session.deadline, MonotonicTime.now >= deadline, !session.isSuspecting else { return }
        polls.reset()
        polls.add(linkDescriptor, reading: true)
        polls.wait(until: .now)
        if polls.isReady(0) { receive() }
    }

    private var nextDeadline: MonotonicTime? {
        [session.deadline, ports.suspicion?.deadline, ports.sinks.deadline].compactMap { $0 }.min()
    }

    private func hearSecondOpinion() {
        guard let patience = ports.suspicion?.takeAnswer(now: .now) else { return }
        tell(.secondOpinion(patienceNanoseconds: patience))
    }

    /// One that was behind may have taken what held the link up.
    private func lookAtSinks() {
        guard !ports.sinks.isEmpty else { return }
        ports.sinks.giveUpWhoIsStuck()
        digest()
    }

    // MARK: Who decides

    private func hearAdmin() {
        let word = desk.hear { account.status(state, epoch: session.lastEpoch, epochBytes: epochs.byteCount) }
        guard let word else { return }
        guard session.isSuspecting else {
            let actions = session.handle(.adminSaid(word), now: .now)
            let isTaken = !actions.isEmpty || (word == .yield && session.isAskedToStop)
            desk.answer(isTaken ? "ok" : "nothing to decide: the primary is heard")
            return perform(actions)
        }
        needArbiter()
        if desk.settle(word) { tell(.adminSaid(word)) }
    }

    private func hearVerdict() {
        let wasOpen = end == nil
        defer { isArbitrated = wasOpen && end != nil }
        switch desk.arbiter?.takeAnswer() {
        case .verdict(let verdict): tell(.verdict(verdict))
        case .word(let word, _): tell(.adminSaid(word))
        case .withdrawn: tell(.questionWithdrawn)
        case nil: break
        }
    }

    private var state: SessionState { SessionState(of: session) }

    private func needArbiter() {
        guard desk.arbiter == nil, configuration.session.arbiter != .none else { return }
        desk.arbiterIsThere(session.run.flatMap(ports.arbiter))
    }

    // MARK: From the link to the epochs

    private var canTakeIn: Bool { epochs.canTakeIn(isFramed: session.isFramed) }

    private func updateRoom() { perform(session.setRoom(epochs.isCollecting)) }

    private func receive() {
        guard !link.isFull else { return digest() }
        switch link.read() {
        case .bytes:
            account.heard(at: .now)
            perform(session.handle(.heard, now: account.lastHeardAt))
            digest()
        case .wouldBlock:
            break
        case .endOfFile:
            tell(.linkEnded)
        case .failed(let error):
            tell(.linkBroken("reading from the link failed (\(error))"))
        }
    }

    /// In a suspicion, while the link may come back: nothing else is taken in any more, and nothing is said to have been heard.
    private var canHearFarewell: Bool { session.listensForFarewell && link.isWhole && !link.isFull }

    private func hearFarewell() {
        guard case .bytes = link.read() else { return }
        do {
            while end == nil, let next = try link.nextFrame() {
                link.pass(next.totalBytes)
                if case .message(let message) = next.frame { tell(.received(message)) }
            }
        } catch {
            link.hasLied()
        }
    }

    /// Takes apart what has been received, as far as it is whole and there is room for it.
    private func digest() {
        while end == nil, !session.isSuspecting, canTakeIn, !link.isEmpty {
            do {
                let passed = try session.isFramed ? digestFrame() : try digestStream(link.bytes)
                if passed == 0 { break }
                link.pass(passed)
            } catch StreamError.epochTooLong(let limitBytes) {
                tell(.epochTooLarge(limitBytes: limitBytes))
            } catch {
                link.hasLied()
                tell(.linkBroken("what arrived is damaged (\(error))"))
            }
        }
        link.beginAnewIfEmpty()
    }

    private func digestFrame() throws -> Int {
        guard let next = try link.nextFrame() else { return 0 }
        tell(.frameTaken(bytes: next.totalBytes, count: link.frameCount))
        switch next.frame {
        case .message(let message):
            tell(.received(message))
            epochs.release(upTo: session.lastEpoch)
        case .data(let payload):
            try digestPayload(payload)
        case .encodedData(let payload):
            guard let pages else { throw FrameError.malformed(.encodedData) }
            try digestPayload(try pages.decode(payload))
        }
        return next.totalBytes
    }

    private func digestPayload(_ payload: UnsafeRawBufferPointer) throws {
        var offset = 0
        while offset < payload.count, end == nil {
            guard epochs.isCollecting else { throw StreamError.bytesAfterEnd }
            offset += try digestStream(UnsafeRawBufferPointer(rebasing: payload[offset...]))
        }
    }

    /// Moves a piece of the stock stream into the epoch under way, up to the next landmark.
    private func digestStream(_ bytes: UnsafeRawBufferPointer) throws(StreamError) -> Int {
        let (passed, landmark) = try stream.advance(over: bytes)
        try epochs.append(UnsafeRawBufferPointer(rebasing: bytes[..<passed]))
        switch landmark {
        case nil:
            break
        case .announced(let announcement)?:
            tell(.announced(announcement))
        case .framesBegin(let version)?:
            tell(.framesBegun(version))
        case .epochEnd(let streamBytes)?:
            try epochArrived(streamBytes: streamBytes)
        }
        return passed
    }

    private func epochArrived(streamBytes: UInt64) throws(StreamError) {
        try epochs.complete()
        tell(.epochReceived(streamBytes: streamBytes))
        epochs.release(upTo: session.lastEpoch)
        epochs.beginNext()
        updateRoom()
    }

    // MARK: From the epochs to libxl

    private func handOn() {
        while true {
            switch feed.handOn(from: epochs) {
            case .moved(let hasFreedBuffer):
                if hasFreedBuffer { updateRoom() }
            case .blocked:
                return
            case .broken:
                return tell(.restorerFailed)
            case .nothingToHandOn:
                // A buffer may have become free for bytes that wait.
                return digest()
            }
        }
    }

    /// All complete epochs, and nothing of an incomplete one. Bounded by what libxl takes.
    private func handOnTheRest() {
        while epochs.waiting != nil, !feed.isBroken {
            polls.reset()
            let feedIndex = polls.add(feed.descriptor, writing: true)
            let returnIndex = polls.add(restoreReturn.returnDescriptor, reading: true)
            polls.wait(until: nil)
            if polls.isReady(returnIndex) { return }
            if polls.isReady(feedIndex) { handOn() }
        }
    }

    // MARK: The session's actions

    private func perform(_ actions: [BackupSession.Action]) {
        for action in actions {
            switch action {
            case .send(let message):
                guard answers.queue(message) else { continue }
                tell(.messageSent)
                answers.write()
            case .askArbiter:
                needArbiter()
                desk.ask(orElse: "decide with romulus resume or romulus yield, here and at the primary")
            case .withdrawQuestion:
                desk.arbiter?.withdraw()
            case .askSecondOpinion(let silenceNanoseconds, let timesBefore):
                ports.suspicion?.ask(
                    silenceNanoseconds: silenceNanoseconds, timesBefore: timesBefore, epoch: session.lastEpoch,
                    now: .now)
            case .log(let line):
                log.write(line)
            case .end(let end):
                decidedAt = .now
                self.end = end
            }
        }
    }
}
