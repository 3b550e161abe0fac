import RomulusCore

/// Stands between libxl (and its helper) and the link on the primary, on one thread of its own.
///
///     helper ─┐                 ┌── staging ring ──▶ units ──▶ link ──▶ ssh
///             ├─▶ pipe ─▶ relay ┤
///     libxl ──┘                 └── session ◀────── back channel ◀────── ssh
///
/// Draining comes before sending, so that the guest runs again as soon as its pages are copied.
public final class PrimaryRelay: @unchecked Sendable {
    /// What libxl writes its stream to, in place of the link.
    public let streamForLibxl: Descriptor
    /// What the helper's side of `HelperControl` listens on.
    public let controlForHelper: Descriptor
    /// What the guard watches.
    public let lease: SharedLease

    private let configuration: Configuration
    private let log: Log
    private let signals: Descriptor
    private let control: Descriptor
    private let saveReturn: SaveReturn

    // Owned by the relay's thread from `start` to `finish`; by the creator before and after.
    private let guest: GuestPort
    private let shape: ShapeWatch?
    private let noteReplica: (Bool) -> Void
    private let link: PrimaryLink
    private let lastWords: LastWords
    private var session: PrimarySession
    private var end: PrimarySession.End?
    private var helper: HelperView
    private var guestReturn: GuestReturn
    private var guestFreeze: GuestFreeze
    private var output: GuestOutput
    private var desk: DecisionDesk
    private var account: RunAccount
    private var nextGuestCheck = MonotonicTime.now
    private var polls = PollSet()
    private var thread: Thread?

    /// - Parameters:
    ///   - link: libxl's stream to the backup. Stays the caller's.
    ///   - back: the back channel, or -1.
    ///   - lease: what a guard watches; nil is one that nobody does.
    public init(
        link: Int32, back: Int32, lease: SharedLease? = nil, configuration: Configuration, ports: Ports, log: Log
    ) throws(SystemError) {
        let stream = try Descriptor.pipe(bytes: configuration.helper.stagingBytes)
        streamForLibxl = stream.other
        let staging = try Staging(of: stream.one, configuration.helper)
        let controls = try Descriptor.messageSockets()
        control = controls.one
        controlForHelper = controls.other
        self.lease = if let lease { lease } else { try SharedLease() }
        signals = try Descriptor.event()
        saveReturn = try SaveReturn()

        self.configuration = configuration
        self.log = log
        guest = ports.guest
        shape = ports.shape
        noteReplica = ports.noteReplica
        self.link = PrimaryLink(link, back: back, staging: staging)
        lastWords = LastWords(self.link, configuration)
        helper = HelperView(control: control.raw, watch: configuration.epochWatch)
        guestReturn = GuestReturn(saveReturn, ports.guest, configuration, log)
        guestFreeze = GuestFreeze(ports.guest, self.lease, log)
        output = GuestOutput(ports.output, log: log)
        desk = DecisionDesk(admin: ports.admin, arbiter: ports.arbiter, log: log)
        account = RunAccount(configuration, ports, control: control.raw, log: log)
        session = PrimarySession(configuration: configuration.session, now: .now)
    }

    /// Where a signal handler leaves its mark (romulus_catch_signals).
    public var signalEvent: Int32 { signals.raw }
    public func start() throws(SystemError) {
        helper.tell(.begin(configuration.helper))
        thread = try Thread(name: "romulus-relay") { [self] in run() }
    }

    /// Called when libxl's save has returned. Waits until it is decided what becomes of the guest, which may take the
    /// arbiter or the admin, and until the backup has had its farewell where the link still carries it (bounded). Nothing is
    /// closed yet that could keep a guest waiting that goes on: that is `close`.
    ///
    /// - Parameter resumeGuest: has a guest that was left suspended run again, if that can be; whether it does.
    public func finish(resumeGuest: () -> Bool = { true }) -> Outcome {
        saveReturn.serve(resumeGuest)
        thread?.join()
        desk.stopAnswering()
        // The guard may have frozen a guest that goes on while the thread was busy, or be about to.
        lease.awaitGuard()
        switch end?.fate {
        case .goesOn, .hasLeft: guestFreeze.thaw()
        case .yields, nil: break
        }
        if helper.isHere { readReports() }
        return Outcome(
            end: end ?? .init(cause: .saveEnded("the relay ended"), fate: .goesOn(.unknown)),
            statistics: account.telemetry.statistics, wasFarewellHeard: lastWords.wereHeard,
            isSuspensionOurs: helper.mayHaveSuspended,
            isSuspendOrderOut: helper.watch.isSuspending && [.runs, .paused].contains(guest.standing()))
    }

    /// After `finish`, when the guest has been seen to: what a grant alone has not let out.
    public func decideOutput(guestRuns: Bool) { output.decide(guestRuns: guestRuns) }

    /// After `finish`, when the guest has been seen to: a backup that would not hear the admin's word otherwise is told.
    public func tellBackup() { lastWords.repeatUntilHeard(log, by: self) }

    /// After `finish`, when the guest has been seen to: an agent, an etcd, a disk that does not answer takes its time.
    public func close() {
        desk.arbiter?.close()
        account.close()
    }

    // MARK: The thread

    private func run() {
        Urgency.raise(to: configuration.helper.realtimePriority, log)
        let flags = link.becomeNonBlocking()
        link.staging.becomeNonBlocking()

        while !session.hasEnded { turn() }
        lastWords.say(after: end, hasReplica: session.acknowledgedEpoch > .none, by: self)
        guestReturn.giveUpGuest(after: end)
        freeGuest()
        saveReturn.end()

        link.staging.close()
        link.restore(flags)
    }

    /// One round: wait, then drain, listen and send.
    private func turn() {
        link.setRoom(session.hasRoomOnLink)
        polls.reset()
        let signalIndex = polls.add(signals.raw, reading: true)
        let returnIndex = polls.add(guestReturn.hasSaveReturned ? -1 : saveReturn.returnDescriptor, reading: true)
        let resumedIndex = polls.add(saveReturn.answerDescriptor, reading: true)
        let controlIndex = polls.add(helper.descriptor, reading: true)
        let streamIndex = polls.add(link.staging.descriptor, reading: true)
        let backIndex = polls.add(link.back.isOpen ? link.back.descriptor : -1, reading: true)
        let wantsLink = link.hasWork
        let linkIndex = polls.add(wantsLink ? link.descriptor : -1, writing: true)
        let vifIndex = polls.add(output.changeDescriptor, reading: true)
        let verdictIndex = polls.add(desk.verdictDescriptor, reading: true)
        let adminIndex = polls.add(desk.adminDescriptor, reading: true)
        let pluginIndex = polls.add(account.pacer.pluginDescriptor, reading: true)
        lease.set(session.watchdogDeadline)
        let nextLook = min(nextGuestCheck, account.pacer.nextLook ?? nextGuestCheck)
        polls.wait(until: min(session.deadline ?? nextLook, nextLook))

        // What has waited for longer than the deadline allows must find the guest frozen.
        perform(session.timePassed(now: .now))
        if polls.isReady(vifIndex) { tell(output.linksChanged()) } else { output.linksAreQuiet() }
        if polls.isReady(controlIndex) { readReports() }
        if polls.isReady(streamIndex) { drain() }
        if polls.isReady(backIndex) { listen() }
        if polls.isReady(linkIndex) { send() }
        // With nothing to write, the link is not standing still.
        if !wantsLink, !session.isFramed { tell(.linkMoved) }
        if link.endFirstEpoch(isFree: session.mayEndEpoch) { noteComposed() }
        if polls.isReady(signalIndex), let name = signals.takeSignalName() { tell(.stopRequested(signalName: name)) }
        if polls.isReady(verdictIndex) { hearVerdict() }
        if polls.isReady(adminIndex) { hearAdmin() }
        if polls.isReady(returnIndex) {
            guestReturn.saveReturned()
            lastWords.passOnStream(by: self)
            saveEnded("libxl's own lines say why")
        }
        if polls.isReady(resumedIndex) { guestWasResumed() }
        if polls.isReady(pluginIndex) { account.pacer.hearPlugins() }
        account.pacer.look()
        lookAtGuest()
        bringGuestBack()
    }

    private func tell(_ event: PrimarySession.Event?) {
        if let event { perform(session.handle(event, now: .now)) }
    }

    // MARK: The guest

    private func lookAtGuest() {
        guard MonotonicTime.now >= nextGuestCheck else { return }
        nextGuestCheck = .now + configuration.guestCheckNanoseconds
        undoLateFreeze()
        guestFreeze.lookForGuard()
        if let leave = guestLeave() { tell(.guestLeft(leave)) }
        if let lack = shape?.lack { tell(.replicaLacks(lack)) }
        if helper.isGuestPaused { tell(.epochPutOff) }
        if guestReturn.hasJustLostDeviceModel() { saveEnded("the guest's device model has died") }
        output.look()
        account.isNow(state, held: output.held)
        output.tellOfLoss()
        // A guest that is frozen waits for others than its helper, and so do pages that wait for the link.
        let waitsForOthers = session.isFrozen || link.staging.ring.storedBytes > 0
        if let why = helper.look(at: guest, waitsForOthers: waitsForOthers, log) { saveEnded(why) }
    }

    /// The guard may have been about to freeze the guest when the lease was renewed after all.
    private func undoLateFreeze() {
        guard guestFreeze.isGuards else { return }
        perform(session.timePassed(now: .now))
        if !session.isFrozen, !session.hasEnded { guestFreeze.thaw() }
    }

    private func guestLeave() -> PrimarySession.GuestLeave? {
        let leave = guest.leave(helper.isCheckpointing)
        guard leave == .taken else { return leave }
        // The helper says that it suspends the guest before it does.
        if helper.isHere { readReports() }
        return guest.leave(helper.mayHaveSuspended)
    }

    /// A save also ends because the guest has gone, and then that is the news.
    private func saveEnded(_ why: String) {
        if let leave = guestLeave() { tell(.guestLeft(leave)) } else { tell(.saveEnded(why)) }
    }

    private func bringGuestBack() {
        if session.awaitsGuest, guestReturn.hasSaveReturned, helper.isHere { readReports() }
        guard session.awaitsGuest, let runs = guestReturn.advance(helper) else { return }
        tellOfGuest(runs: runs)
    }

    private func guestWasResumed() {
        let runs = guestReturn.takeAnswer()
        if runs { helper.guestWasResumed() }
        tellOfGuest(runs: runs)
    }

    private func tellOfGuest(runs: Bool) {
        if let leave = guestLeave() { tell(.guestLeft(leave)) }
        tell(.guestResumed(runs))
    }

    private func freeGuest() {
        guard case .goesOn? = end?.fate, helper.process != nil else { return }
        guestReturn.awaitSave(with: helper)
        readReports()
        guestReturn.endHanging(helper)
    }

    // MARK: Who decides

    private func hearVerdict() {
        switch desk.arbiter?.takeAnswer() {
        case .verdict(let verdict): tell(.verdict(verdict))
        case .word(let word, let isTold):
            // Whom etcd or a plugin tells hears no farewell while it asks.
            lastWords.isBackupToBeTold = !isTold && configuration.session.arbiter == .fence
            tell(.adminSaid(word))
        case .withdrawn, nil: break
        }
    }

    private func hearAdmin() {
        guard let word = desk.hear(status: { status }) else { return }
        guard session.isFrozen else { return desk.answer("nothing to decide: the guest is not frozen") }
        if desk.settle(word) { tell(.adminSaid(word)) }
    }

    private var state: SessionState { SessionState(of: session, isGuestPaused: helper.isGuestPaused) }
    private var status: SessionStatus {
        account.status(
            state, epoch: session.acknowledgedEpoch, held: output.present, stagingBytes: link.staging.byteCount)
    }

    private func reached(_ landmark: LinkWriter.Landmark) {
        switch landmark {
        case .stream(.headersEnd): link.announce(configuration)
        case .stream(.recordBoundary): link.beginWantedFrames(configuration.pages, log)
        case .stream(.firstCheckpoint):
            noteReplica(true)
            tell(.firstCheckpointSent)
            link.wantFramesNoMore()
        case .stream(.checkpointEnd(let pages, let bytes)): checkpointEnded(pages: pages, streamBytes: bytes)
        case .framesBegun: tell(.framesBegun)
        case .epochEndSent: tell(.epochSent)
        }
    }

    private func checkpointEnded(pages: Int, streamBytes: UInt64) {
        // Ours reports the suspension and waits for the answer, long before libxl writes this.
        guard helper.isOurs else { return saveEnded(HelperView.foreign) }
        account.sent(link.checkpointEnded(pages: pages, streamBytes: streamBytes))
        helper.checkpointEnded()
        guard link.isFramed else { return tell(.epochSent) }
        link.endEpoch(streamBytes: streamBytes, isFree: session.mayEndEpoch)
    }

    private func noteComposed() {
        for (frame, moment) in link.takeComposed() { session.frameComposed(frame, now: moment) }
    }

    private func readReports() {
        while true {
            switch helper.receive(staged: link.epochsStaged) {
            case .message(.suspending): break
            case .message(.paused(let isPaused)):
                guard isPaused, !session.isFrozen, guest.standing() == .paused else { break }
                log.note(
                    "the guest is paused (xl pause): no epoch is taken until it runs again (xl unpause); its replica stays"
                        + " as it is")
            case .message(.guestTaken): tell(.guestLeft(.taken))
            case .message(.suspended):
                account.pacer.epochBegan()
                tell(.guestSuspended)
            case .message(.resumed(let times)): account.resumed(times)
            case .nothing: return
            case .closed:
                lastWords.passOnStream(by: self)
                return saveEnded("the save helper has ended; the lines above say why")
            }
        }
    }

    // MARK: The session's actions

    private func perform(_ actions: [PrimarySession.Action]) {
        // Some take their time, such as an admin's script: nobody is to think that this thread stands still.
        lease.set(session.watchdogDeadline)
        for action in actions { perform(action) }
    }

    private func perform(_ action: PrimarySession.Action) {
        switch action {
        case .beginFrames(let terms): link.wantFrames(terms)
        case .send(let message):
            lastWords.queued(message)
            link.queue(message)
            noteComposed()
        case .holdOutput(let epoch):
            // Where it cannot be held, the guest stays suspended until the run has ended.
            if let failure = output.holdEpoch() { tell(failure) } else { helper.tell(.outputHeld(epoch)) }
        case .releaseOutput: tell(output.releaseEpoch())
        case .commit(let epoch):
            link.staging.takeAllMemory()
            // With a stock backup the epoch may have been sent before its times were read.
            if helper.isHere { readReports() }
            account.committed(epoch)
        case .stopSave:
            helper.tell(.stop)
            link.closeStream()
        // At the end of this turn.
        case .resumeGuest: guestReturn.begin()
        case .freezeGuest: guestFreeze.freeze()
        case .thawGuest: guestFreeze.thaw()
        case .askArbiter: desk.ask(orElse: "decide with romulus resume or romulus yield")
        case .openOutput: output.open()
        case .openOutputIfGuestRuns: output.leaveUndecided()
        case .dropOutput: output.drop()
        case .log(let line): log.write(line)
        case .end(let end): runEnded(end)
        }
    }

    private func runEnded(_ end: PrimarySession.End) {
        self.end = end
        saveReturn.wantNothing()
        if case .goesOn = end.fate { noteReplica(false) }
        lease.note(end.fate)
    }
}

extension PrimaryRelay: LinkMover {
    var hasEnded: Bool { session.hasEnded }

    func send() {
        let progress = link.write()
        noteComposed()
        switch progress {
        case .nothingToWrite, .blocked: break
        case .moved(let landmark):
            tell(.linkMoved)
            if let landmark { reached(landmark) }
        case .failed(let reason): tell(.linkBroken(reason))
        }
    }

    func listen() {
        let received = link.receive()
        if received.isAlive { tell(.heard) }
        for message in received.messages {
            lastWords.received(message)
            tell(.received(message))
        }
        if let failure = received.failure { tell(.linkBroken(failure)) }
    }

    func drain() {
        let (bytes, isFull) = link.staging.drain()
        if bytes > 0 { helper.streamMoved() }
        // In the first copy it is the copying that waits, not the guest.
        if isFull, link.epochsStaged > .none { account.stagingWasFull() }
    }
}
