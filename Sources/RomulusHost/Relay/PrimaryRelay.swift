import CLinux
import Glibc
import RomulusCore
import Synchronization

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

    // Owned by the relay's thread from `start` to `finish`; by the creator before and after.
    private let link: Int32
    private var back: BackChannel
    private let signals: Descriptor
    private let saveReturned: Descriptor
    // Between `finish` and the thread: libxl is for the caller's thread only.
    private let resumeWanted: Descriptor
    private let guestResumed: Descriptor
    private let isResumeWanted = Atomic(false)
    private let isGuestBack = Atomic(false)
    private let isOver = Atomic(false)
    private let control: Descriptor
    /// What the helper watches.
    public let lease: SharedLease
    private var streamEnd: Int32
    private let memory: MappedMemory
    private let log: Log
    private let configuration: Configuration
    private let ports: Ports
    private var desk: DecisionDesk
    private var nextGuestCheck: MonotonicTime

    private var session: PrimarySession
    private var ring: StagingRing
    private var outgoing = OutgoingStream()
    private var writer: LinkWriter
    private var end: PrimarySession.End?
    private var isLinkUsable = true
    private var telemetry: RunTelemetry
    private var pacer: EpochPacer
    private var backupFarewell: FarewellReason?
    private var isFarewellQueued = false
    /// By the link, for its arbiter does not.
    private var isBackupToBeTold = false
    private var wasStockFarewellSent = false
    private var isHelperHere = true
    private var isHelperOurs = false
    /// From before the guest is suspended until it runs again.
    private var isCheckpointing = false
    private var epochWatch: EpochWatch
    private var hasStoodStill = false
    /// Of the checkpoint that was begun last.
    private var helperProcess: Int32?
    /// The helper waits for whoever has paused the guest.
    private var isGuestPaused = false
    /// Not undone yet.
    private var ownFreezes: Int64 = 0
    private var hasSaveReturned = false
    /// Since when `session` has waited for a save that has not returned.
    private var hasAwaitedSaveSince: MonotonicTime?
    private var hasLostDeviceModel = false
    /// Whoever has libxl is at it.
    private var isResuming = false
    private var isFirstCheckpointSent = false
    /// The first epoch's end waits until the backup has heard everything before it.
    private var firstEpochEnd: Message?
    /// As of the last look.
    private var held = HeldOutput()
    /// What is held is let out, or dropped, when it is known whether the guest runs.
    private var isOutputUndecided = false
    private var framesWanted = FramesWanted.no
    private var epochsStaged = Epoch.none
    private var polls = PollSet()

    private enum FramesWanted {
        case no
        case begin(LinkTerms)
        case begun
    }

    private var thread: Thread?

    /// - Parameters:
    ///   - link: libxl's stream to the backup. Stays the caller's.
    ///   - back: the back channel, or -1.
    public init(
        link: Int32, back: Int32, configuration: Configuration, ports: Ports, log: Log
    ) throws(SystemError) {
        let stream = try Descriptor.pipe(bytes: configuration.helper.stagingBytes)
        streamEnd = stream.one.release()
        streamForLibxl = stream.other
        let controls = try Descriptor.messageSockets()
        control = controls.one
        controlForHelper = controls.other
        lease = try SharedLease()
        signals = try Descriptor.event()
        saveReturned = try Descriptor.event()
        resumeWanted = try Descriptor.event()
        guestResumed = try Descriptor.event()
        memory = try MappedMemory(byteCount: configuration.helper.stagingBytes)
        // The native engine has staging of its own for what a suspended guest waits for; the stock one has this.
        let firstCopy = configuration.helper.engine == .native ? Self.firstCopyBytes : memory.bytes.count
        ring = StagingRing(storage: UnsafeMutableRawBufferPointer(rebasing: memory.bytes.prefix(firstCopy)))

        self.link = link
        self.back = BackChannel(descriptor: back)
        self.configuration = configuration
        self.log = log
        self.ports = ports
        desk = DecisionDesk(admin: ports.admin, arbiter: ports.arbiter, log: log)
        nextGuestCheck = .now
        epochWatch = configuration.epochWatch
        writer = LinkWriter(link: link)
        telemetry = RunTelemetry(guest: configuration.session.guest, trace: ports.trace, metrics: ports.metrics)
        pacer = EpochPacer(
            configuration.schedule, control: control.raw, output: ports.output, plugins: ports.plugins, log: log)
        session = PrimarySession(configuration: configuration.session, now: .now)
    }

    /// Where a signal handler leaves its mark (romulus_catch_signals).
    public var signalEvent: Int32 { signals.raw }

    public func start() throws(SystemError) {
        _ = HelperControl.send(.begin(configuration.helper), on: control.raw)
        thread = try Thread(name: "romulus-relay") { [self] in run() }
    }

    public var linkDescriptor: Int32 { link }

    /// Called when libxl's save has returned. Waits until it is decided what becomes of the guest, which may take the
    /// arbiter or the admin, and until the backup has had its farewell where the link still carries it (bounded). Nothing is
    /// closed yet that could keep a guest waiting that goes on: that is `close`.
    ///
    /// - Parameter resumeGuest: has a guest that was left suspended run again, if that can be; whether it does.
    public func finish(resumeGuest: () -> Bool = { true }) -> Outcome {
        saveReturned.signal()
        while !isOver.load(ordering: .acquiring) {
            var wish = PollSet()
            wish.add(resumeWanted.raw, reading: true)
            wish.wait(until: nil)
            resumeWanted.drain()
            guard isResumeWanted.exchange(false, ordering: .acquiringAndReleasing) else { continue }
            isGuestBack.store(resumeGuest(), ordering: .releasing)
            guestResumed.signal()
        }
        thread?.join()
        desk.stopAnswering()
        // The helper may have frozen a guest that goes on while the thread was busy; by now it is gone, and freezes no more.
        switch end?.fate {
        case .goesOn, .hasLeft: thaw()
        case .yields, nil: break
        }
        if isHelperHere { readReports() }
        return Outcome(
            end: end ?? .init(cause: .saveEnded("the relay ended"), fate: .goesOn(.unknown)),
            statistics: telemetry.statistics,
            wasFarewellHeard: wasStockFarewellSent || (isFarewellQueued && backupFarewell != nil),
            isSuspensionOurs: isCheckpointing || !isHelperOurs,
            isSuspendOrderOut: epochWatch.isSuspending && [.runs, .paused].contains(ports.guest.standing()))
    }

    /// After `finish`, when the guest has been seen to: what a grant alone has not let out.
    public func decideOutput(guestRuns: Bool) {
        guard isOutputUndecided else { return }
        isOutputUndecided = false
        if guestRuns { ports.output?.releaseEverything() } else { ports.output?.dropEverything() }
    }

    /// After `finish`, when the guest has been seen to: a backup that still asks its arbiter, and is not told by that, hears the
    /// admin's word when the link is back. Until the link has ended; an interrupt ends `xl`.
    public func tellBackup() {
        guard isBackupToBeTold, isFarewellQueued, backupFarewell == nil, isLinkUsable, back.isOpen else { return }
        let (linkFlags, backFlags) = (DescriptorIO.setNonBlocking(link), DescriptorIO.setNonBlocking(back.descriptor))
        log.note("waiting until the backup has heard it; Ctrl-C ends the waiting, and changes nothing here")
        while isLinkUsable, back.isOpen, backupFarewell == nil {
            polls.reset()
            polls.add(back.descriptor, reading: true)
            polls.add(writer.hasWork(ring) ? link : -1, writing: true)
            polls.wait(until: nil)
            if writer.hasWork(ring) { send() }
            listen()
        }
        DescriptorIO.restoreFlags(link, linkFlags)
        DescriptorIO.restoreFlags(back.descriptor, backFlags)
    }

    /// After `finish`, when the guest has been seen to: an agent, an etcd, a disk that does not answer takes its time.
    public func close() {
        desk.arbiter?.close()
        telemetry.close()
    }

    // MARK: The thread

    private func run() {
        Urgency.raise(to: configuration.helper.realtimePriority, log)
        let linkFlags = DescriptorIO.setNonBlocking(link)
        let backFlags = back.isOpen ? DescriptorIO.setNonBlocking(back.descriptor) : -1
        _ = DescriptorIO.setNonBlocking(streamEnd)

        while !session.hasEnded { turn() }
        sayLastWords()
        giveUpGuest()
        freeGuest()
        isOver.store(true, ordering: .releasing)
        resumeWanted.signal()

        closeStream()
        DescriptorIO.restoreFlags(link, linkFlags)
        DescriptorIO.restoreFlags(back.descriptor, backFlags)
    }

    /// One round: wait, then drain, listen and send.
    private func turn() {
        writer.mayComposeData = session.hasRoomOnLink
        polls.reset()
        let signalIndex = polls.add(signals.raw, reading: true)
        let returnIndex = polls.add(hasSaveReturned ? -1 : saveReturned.raw, reading: true)
        let resumedIndex = polls.add(guestResumed.raw, reading: true)
        let controlIndex = polls.add(isHelperHere ? control.raw : -1, reading: true)
        let streamIndex = polls.add(ring.freeBytes > 0 ? streamEnd : -1, reading: true)
        let backIndex = polls.add(back.isOpen ? back.descriptor : -1, reading: true)
        let wantsLink = isLinkUsable && writer.hasWork(ring)
        let linkIndex = polls.add(wantsLink ? link : -1, writing: true)
        let vifIndex = polls.add(ports.output?.changeDescriptor ?? -1, reading: true)
        let verdictIndex = polls.add(desk.verdictDescriptor, reading: true)
        let adminIndex = polls.add(desk.adminDescriptor, reading: true)
        let pluginIndex = polls.add(ports.plugins?.descriptor ?? -1, reading: true)
        lease.set(session.watchdogDeadline)
        polls.wait(until: min(session.deadline ?? nextGuestCheck, nextGuestCheck, pacer.nextLook ?? nextGuestCheck))

        // What has waited for longer than the deadline allows must find the guest frozen.
        perform(session.timePassed(now: .now))
        if polls.isReady(vifIndex) { lookAtLinks() } else { ports.output?.linksAreQuiet() }
        if polls.isReady(controlIndex) { readReports() }
        if polls.isReady(streamIndex) { drain() }
        if polls.isReady(backIndex) { listen() }
        if polls.isReady(linkIndex) { send() }
        // With nothing to write, the link is not standing still.
        if !wantsLink, !session.isFramed { perform(session.handle(.linkMoved, now: .now)) }
        endFirstEpoch()
        if polls.isReady(signalIndex) { readSignals() }
        if polls.isReady(verdictIndex) { hearVerdict() }
        if polls.isReady(adminIndex) { hearAdmin() }
        if polls.isReady(returnIndex) {
            hasSaveReturned = true
            passOnLastBytes()
            saveEnded("libxl's own lines say why")
        }
        if polls.isReady(resumedIndex) { guestWasResumed() }
        if polls.isReady(pluginIndex) { pacer.hearPlugins() }
        pacer.look()
        lookAtGuest()
        bringGuestBack()
    }

    private func lookAtGuest() {
        guard MonotonicTime.now >= nextGuestCheck else { return }
        nextGuestCheck = .now + configuration.guestCheckNanoseconds
        undoLateFreeze()
        if let leave = guestLeave() { perform(session.handle(.guestLeft(leave), now: .now)) }
        if let lack = ports.shape?.lack { perform(session.handle(.replicaLacks(lack), now: .now)) }
        if isGuestPaused { perform(session.handle(.epochPutOff, now: .now)) }
        lookAtDeviceModel()
        watchOutput()
        watchEpoch()
    }

    /// The save would fail when it next needs one, and where the guest hangs already, not even that.
    private func lookAtDeviceModel() {
        guard !hasLostDeviceModel, !ports.guest.isServed() else { return }
        hasLostDeviceModel = true
        saveEnded("the guest's device model has died")
    }

    /// Whether the checkpoint under way gets on. A guest that is frozen waits for others than its helper, and so do pages that wait
    /// for the link.
    private func watchEpoch() {
        if session.isFrozen || isGuestPaused || ring.storedBytes > 0 { epochWatch.moved(at: .now) }
        guard epochWatch.isDue(at: .now), let guest = ports.guest.standing() else { return }
        switch epochWatch.look(guest, at: .now) {
        case .wait: break
        case .say(let text): log.warning(text)
        case .end(let why):
            hasStoodStill = true
            saveEnded(why)
        }
    }

    private func lookAtLinks() {
        do {
            try ports.output?.linksChanged()
        } catch {
            perform(session.handle(.outputUnheld("the guest's output cannot be held: \(error)"), now: .now))
        }
    }

    private func guestLeave() -> PrimarySession.GuestLeave? {
        let leave = ports.guest.leave(isCheckpointing)
        guard leave == .taken else { return leave }
        // The helper says that it suspends the guest before it does. One that is not ours says nothing.
        if isHelperHere { readReports() }
        return ports.guest.leave(isCheckpointing || !isHelperOurs)
    }

    /// When the save is over, so that none can suspend the guest any more. One that no checkpoint has suspended runs, or is
    /// somebody else's.
    private func bringGuestBack() {
        if session.awaitsGuest, hasSaveReturned, isHelperHere { readReports() }
        guard session.awaitsGuest, !isResuming else { return }
        guard ports.guest.isServed() else { return tellOfGuest(runs: false) }
        guard hasSaveReturned else { return hastenSave() }
        guard isCheckpointing || !isHelperOurs else { return tellOfGuest(runs: true) }
        isResuming = true
        isResumeWanted.store(true, ordering: .releasing)
        resumeWanted.signal()
    }

    private func guestWasResumed() {
        guestResumed.drain()
        isResuming = false
        let runs = isGuestBack.load(ordering: .acquiring)
        if runs { isCheckpointing = false }
        tellOfGuest(runs: runs)
    }

    private func tellOfGuest(runs: Bool) {
        if let leave = guestLeave() { perform(session.handle(.guestLeft(leave), now: .now)) }
        perform(session.handle(.guestResumed(runs), now: .now))
    }

    /// libxl waits for minutes for a guest that does not follow the order to suspend, but that runs; and for ever for a helper that
    /// hangs, with the guest suspended.
    private func hastenSave() {
        let since = hasAwaitedSaveSince ?? .now
        hasAwaitedSaveSince = since
        let waited = MonotonicTime.now - since
        let isOverdue = waited >= configuration.endingNanoseconds
        if hasStoodStill || isOverdue, [.runs, .paused].contains(ports.guest.standing()) {
            return tellOfGuest(runs: true)
        }
        guard waited >= helperPatienceNanoseconds else { return }
        hasAwaitedSaveSince = .now
        if isHelperHere, let helperProcess { killHelper(helperProcess) }
    }

    /// A save also ends because the guest has gone, and then that is the news.
    private func saveEnded(_ why: String) {
        if let leave = guestLeave() {
            perform(session.handle(.guestLeft(leave), now: .now))
        } else {
            perform(session.handle(.saveEnded(why), now: .now))
        }
    }

    /// To a stock backup goes all that has been written, as without us: the last epoch may be whole.
    private func passOnLastBytes() {
        let deadline = MonotonicTime.now + configuration.farewellNanoseconds
        while isLinkUsable, !writer.isFramed, !session.hasEnded, MonotonicTime.now < deadline {
            drain()
            guard writer.hasWork(ring) else { return }
            sendWhenTaken(until: deadline)
        }
    }

    private func watchOutput() {
        let before = held.droppedPackets
        if let output = ports.output { held = output.held }
        telemetry.isNow(state, held: held)
        lostPackets += held.droppedPackets - before
        guard lostPackets > 0, dropLimiter.passes(at: .now) else { return }
        log.warning(
            "the network buffer was full and \(lostPackets) packets of the guest were dropped"
                + " (\(held.droppedPackets) so far): raise netbuf_limit_kib in /etc/xen/romulus.conf, or shorten the"
                + " period (-i)")
        lostPackets = 0
    }
    /// Not said yet.
    private var lostPackets = 0
    private var dropLimiter = MessageLimiter(intervalNanoseconds: 10_000_000_000)

    private func hearVerdict() {
        switch desk.arbiter?.takeAnswer() {
        case .verdict(let verdict): perform(session.handle(.verdict(verdict), now: .now))
        case .word(let word, let isTold):
            // Whom etcd or a plugin tells hears no farewell while it asks.
            isBackupToBeTold = !isTold && configuration.session.arbiter == .fence
            perform(session.handle(.adminSaid(word), now: .now))
        case .withdrawn, nil: break
        }
    }

    private func hearAdmin() {
        guard let word = desk.hear(status: { status }) else { return }
        guard session.isFrozen else { return desk.answer("nothing to decide: the guest is not frozen") }
        if desk.settle(word) { perform(session.handle(.adminSaid(word), now: .now)) }
    }

    private var state: SessionState {
        if session.hasEnded { return .ending }
        if session.isFrozen { return .frozen }
        if session.acknowledgedEpoch == .none { return .copying }
        if isGuestPaused { return .paused }
        return session.isFramed ? .protected : .stock
    }

    private var status: SessionStatus {
        SessionStatus(
            guest: configuration.session.guest, side: .primary, state: state, epoch: session.acknowledgedEpoch,
            startedAt: telemetry.statistics.startedAt, lastEvent: log.newestEvent,
            details: telemetry.details(
                schedule: pacer.policy, arbiter: configuration.session.arbiter, held: ports.output?.held ?? held)
                + [.init("buffers_kib", .integer(Int64(buffersKiB)))])
    }

    /// The most that the run may take in dom0: the native engine has staging of its own, as large as the relay's.
    private var buffersKiB: Int {
        2 * (memory.bytes.count >> 10) + (configuration.pages?.slots ?? 0) * (PageFormat.pageBytes >> 10)
    }

    /// What the first copy gets of the staging memory: the guest does not wait for it, and it would touch whatever there is.
    private static let firstCopyBytes = 4 << 20
    /// How much is drained before the link is looked at again: some milliseconds of copying.
    private static let drainBytes = 16 << 20

    /// The helper's and libxl's bytes, at memory speed, until the pipe is empty or the ring is full.
    private func drain() {
        var drained = 0
        while ring.freeBytes > 0 {
            switch DescriptorIO.read(streamEnd, into: ring.freeParts) {
            case .bytes(let count):
                ring.didWrite(count)
                epochWatch.moved(at: .now)
                drained += count
                if drained >= Self.drainBytes { return }
            case .wouldBlock:
                return
            case .endOfFile, .failed:
                closeStream()
                return
            }
        }
        // In the first copy it is the copying that waits, not the guest.
        if epochsStaged > .none { telemetry.stagingWasFull() }
    }

    /// Whoever still writes gets EPIPE, and with it the stock code's own way out.
    private func closeStream() {
        guard streamEnd >= 0 else { return }
        Glibc.close(streamEnd)
        streamEnd = -1
    }

    private func send() {
        let progress = writer.write(&ring, &outgoing)
        noteComposed()
        switch progress {
        case .nothingToWrite, .blocked:
            break
        case .moved(let landmark):
            perform(session.handle(.linkMoved, now: .now))
            if let landmark { reached(landmark) }
        case .failed(let reason):
            isLinkUsable = false
            perform(session.handle(.linkBroken(reason), now: .now))
        }
    }

    private func reached(_ landmark: LinkWriter.Landmark) {
        switch landmark {
        case .stream(.headersEnd):
            guard back.descriptor >= 0 else { break }
            let features: Features = configuration.pages == nil ? [] : .encodedData
            writer.queue(record: Announcement(features: features, run: configuration.run).encoded())
        case .stream(.recordBoundary):
            guard case .begin(let terms) = framesWanted else { break }
            beginFrames(terms)
        case .stream(.firstCheckpoint):
            isFirstCheckpointSent = true
            ports.noteReplica(true)
            perform(session.handle(.firstCheckpointSent, now: .now))
            outgoing.isLookingForRecordBoundary = false
        case .stream(.checkpointEnd(let pages, let streamBytes)):
            // Ours reports the suspension and waits for the answer, long before libxl writes this.
            guard isHelperOurs else {
                saveEnded(
                    "the save helper knows nothing of Romulus; install the one of the same Xen as this xl, or start xl by"
                        + " romulus-activate's launcher")
                break
            }
            telemetry.sent(
                EpochSize(pages: pages, streamBytes: streamBytes, linkBytes: writer.takeStreamBytes()))
            epochsStaged = epochsStaged.next
            if !isCheckpointing { epochWatch.ended() }
            if writer.isFramed {
                let message = Message.epochEnd(epochsStaged, streamBytes: streamBytes)
                if session.mayEndEpoch { writer.queue(message, then: .epochEndSent) } else { firstEpochEnd = message }
            } else {
                perform(session.handle(.epochSent, now: .now))
            }
        case .framesBegun:
            perform(session.handle(.framesBegun, now: .now))
        case .epochEndSent:
            perform(session.handle(.epochSent, now: .now))
        }
    }

    private func beginFrames(_ terms: LinkTerms) {
        framesWanted = .begun
        outgoing.framesBegin()
        writer.queue(record: FramesBegin.encoded(version: terms.version), then: .framesBegun)
        writer.beginFrames()
        guard let pages = configuration.pages, terms.pageSlots >= PageCache.fewestSlots else { return }
        do throws(SystemError) {
            writer.pages = try PageEncoding(pages, slots: terms.pageSlots)
        } catch {
            log.warning("no memory to encode pages with (\(error)): they go as they are; lower page_cache_mib")
        }
    }

    private func endFirstEpoch() {
        guard let message = firstEpochEnd, session.mayEndEpoch else { return }
        firstEpochEnd = nil
        writer.queue(message, then: .epochEndSent)
        noteComposed()
    }

    private func noteComposed() {
        for (frame, moment) in writer.takeComposed() { session.frameComposed(frame, now: moment) }
    }

    private func listen() {
        let received = back.receive()
        if received.isAlive { perform(session.handle(.heard, now: .now)) }
        for message in received.messages {
            if case .farewell(let reason, _) = message { backupFarewell = reason }
            perform(session.handle(.received(message), now: .now))
        }
        if let failure = received.failure { perform(session.handle(.linkBroken(failure), now: .now)) }
    }

    private func readSignals() {
        guard let name = signals.takeSignalName() else { return }
        perform(session.handle(.stopRequested(signalName: name), now: .now))
    }

    private func readReports() {
        while true {
            switch HelperControl.receiveReport(from: control.raw) {
            case .message(.suspending(_, let process)):
                isHelperOurs = true
                isCheckpointing = true
                helperProcess = process
                epochWatch.began(at: .now)
            case .message(.paused(let isPaused)):
                isGuestPaused = isPaused
                guard isPaused, !session.isFrozen, ports.guest.standing() == .paused else { break }
                log.note(
                    "the guest is paused (xl pause): no epoch is taken until it runs again (xl unpause); its replica stays"
                        + " as it is")
            case .message(.guestTaken):
                perform(session.handle(.guestLeft(.taken), now: .now))
            case .message(.suspended):
                pacer.epochBegan()
                epochWatch.saved(at: .now)
                perform(session.handle(.guestSuspended, now: .now))
            case .message(.resumed(let times)):
                isCheckpointing = false
                if epochsStaged >= times.epoch { epochWatch.ended() } else { epochWatch.moved(at: .now) }
                telemetry.resumed(times)
            case .nothing: return
            case .closed:
                isHelperHere = false
                passOnLastBytes()
                saveEnded("the save helper has ended; the lines above say why")
                return
            }
        }
    }

    // MARK: The session's actions

    private func perform(_ actions: [PrimarySession.Action]) {
        // Some take their time, such as an admin's script: nobody is to think that this thread stands still.
        lease.set(session.watchdogDeadline)
        for action in actions {
            switch action {
            case .beginFrames(let terms):
                framesWanted = .begin(terms)
                outgoing.isLookingForRecordBoundary = true
            case .send(let message):
                if case .farewell = message { isFarewellQueued = true }
                writer.queue(message)
                noteComposed()
            case .holdOutput(let epoch):
                holdOutput(epoch)
            case .releaseOutput:
                releaseOutput()
            case .commit(let epoch):
                committed(epoch)
            case .stopSave:
                _ = HelperControl.send(.stop, on: control.raw)
                writer.isStreamClosed = true
                firstEpochEnd = nil
                closeStream()
            case .resumeGuest:
                // At the end of this turn.
                hasAwaitedSaveSince = nil
            case .freezeGuest:
                freeze()
            case .thawGuest:
                thaw()
            case .askArbiter:
                desk.ask(orElse: "decide with romulus resume or romulus yield")
            case .openOutput:
                ports.output?.releaseEverything()
            case .openOutputIfGuestRuns:
                isOutputUndecided = true
            case .dropOutput:
                ports.output?.dropEverything()
            case .log(let line):
                log.write(line)
            case .end(let end):
                self.end = end
                isResumeWanted.store(false, ordering: .releasing)
                if case .goesOn = end.fate {
                    ports.noteReplica(false)
                    _ = HelperControl.send(.guestGoesOn, on: control.raw)
                }
            }
        }
    }

    private func freeze() {
        // The helper has done so, while this thread stood still.
        if lease.hasFreezes { return }
        guard ports.guest.freeze() else {
            return log.error("the guest could not be frozen: pause it with xl pause, before the replica runs")
        }
        ownFreezes += 1
        lease.noteRelay(hasFrozen: true)
    }

    /// Undoes what this thread and the helper have done, and nobody else's pause. Should `xl` die in between, the helper finds
    /// a guest that is not frozen, and pauses it.
    private func thaw() {
        lease.noteRelay(hasFrozen: false)
        let times = ownFreezes + lease.takeFreezes()
        ownFreezes = 0
        for _ in 0..<times where !ports.guest.thaw() {
            log.error("the guest could not be thawed: let it go on with xl unpause")
        }
    }

    /// The helper may have been about to freeze the guest when the lease was renewed after all.
    private func undoLateFreeze() {
        guard lease.hasFreezes else { return }
        perform(session.timePassed(now: .now))
        if !session.isFrozen, !session.hasEnded { thaw() }
    }

    private func committed(_ epoch: Epoch) {
        if ring.capacityBytes < memory.bytes.count, ring.storedBytes == 0 { ring = StagingRing(storage: memory.bytes) }
        // With a stock backup the epoch may have been sent before its times were read.
        if isHelperHere { readReports() }
        pacer.committed(epoch, telemetry.committed(epoch))
        telemetry.overran(pacer.overrunCount)
    }

    /// Where its output cannot be held, the guest stays suspended until the run has ended.
    private func holdOutput(_ epoch: Epoch) {
        do {
            try ports.output?.holdEpoch()
            _ = HelperControl.send(.outputHeld(epoch), on: control.raw)
        } catch {
            perform(session.handle(.outputUnheld("the guest's output cannot be held: \(error)"), now: .now))
        }
    }

    private func releaseOutput() {
        do {
            try ports.output?.releaseEpoch()
        } catch {
            perform(session.handle(.outputUnheld("the guest's output cannot be released: \(error)"), now: .now))
        }
    }

    /// libxl may be about to wait for a guest that will not run here again, or do so already: until its save has returned it is
    /// told that it need not.
    private func giveUpGuest() {
        let mustNotRun: Bool
        switch end?.fate {
        case .hasLeft where end?.cause == .guestLeft(.taken): return
        case .yields: mustNotRun = true
        case .hasLeft: mustNotRun = false
        case .goesOn, nil: return
        }
        let deadline = MonotonicTime.now + Self.givingUpNanoseconds
        while !hasSaveReturned, MonotonicTime.now < deadline {
            ports.guest.giveUp(mustNotRun)
            awaitSaveReturn(until: .now + .nanoseconds(milliseconds: 100))
        }
    }

    private func awaitSaveReturn(until deadline: MonotonicTime) {
        polls.reset()
        let returned = polls.add(saveReturned.raw, reading: true)
        polls.wait(until: deadline)
        hasSaveReturned = polls.isReady(returned)
    }

    /// libxl's own limits: a minute for the order to be taken, and one for the suspension.
    private static let givingUpNanoseconds: Int64 = 125_000_000_000

    /// A helper that hangs keeps libxl, and with it whoever would resume the guest. One that waits for a guest to suspend will end.
    private func freeGuest() {
        guard case .goesOn? = end?.fate, let helperProcess else { return }
        let deadline = MonotonicTime.now + helperPatienceNanoseconds
        while !hasSaveReturned, MonotonicTime.now < deadline { awaitSaveReturn(until: deadline) }
        readReports()
        let isWaiting = epochWatch.isSuspending && ports.guest.standing() != .suspended
        guard !hasSaveReturned, isHelperHere, !isWaiting else { return }
        killHelper(helperProcess)
    }

    private var helperPatienceNanoseconds: Int64 {
        hasStoodStill ? configuration.hangingNanoseconds : configuration.endingNanoseconds
    }

    private func killHelper(_ process: Int32) {
        log.warning("the save helper hangs: it is killed, so that xl goes on and resumes the guest if it is suspended")
        kill(process, SIGKILL)
    }

    /// Finishes the frame under way, and waits until the backup has answered a farewell with its own.
    private func sayLastWords() {
        if !writer.isFramed { return sayStockFarewell() }
        let deadline = MonotonicTime.now + (isBackupLost ? Self.hopelessNanoseconds : configuration.farewellNanoseconds)
        writeOut(until: deadline)
        guard isFarewellQueued else { return }
        while isLinkUsable, back.isOpen, backupFarewell == nil, MonotonicTime.now < deadline {
            polls.reset()
            polls.add(back.descriptor, reading: true)
            polls.wait(until: deadline)
            listen()
        }
    }

    /// The guest may be suspended, and waits for the end of this: a backup that was silent so far gets a word, not a wait.
    private static let hopelessNanoseconds: Int64 = 50_000_000

    private var isBackupLost: Bool {
        if case .goesOn(.ruledOut)? = end?.fate { return true }
        return switch end?.cause {
        case .linkBroken, .backupSilent: true
        case nil, .saveEnded, .stopRequested, .guestLeft, .replicaLacks, .backupLeft, .refused: false
        }
    }

    /// A stock backup takes over at every end of its stream, whatever the reason: where its replica must not run, it is sent
    /// what it must refuse.
    private func sayStockFarewell() {
        guard isReplicaUnwanted, back.descriptor >= 0 else { return }
        let deadline = MonotonicTime.now + configuration.session.patienceNanoseconds
        // What is under way first.
        writeOut(until: deadline)
        guard isLinkUsable, writer.isIdle, let words = outgoing.stockFarewell else { return }
        writer.queue(record: words)
        writeOut(until: deadline)
        wasStockFarewellSent = isLinkUsable && writer.isIdle && session.acknowledgedEpoch > .none
    }

    /// The guest goes on here, or it has left by itself. One that was destroyed is the backup's.
    private var isReplicaUnwanted: Bool {
        switch end?.cause {
        case .stopRequested, .saveEnded, .replicaLacks, .refused, .guestLeft(.shutDown), .guestLeft(.crashed),
            .guestLeft(.taken):
            true
        case nil, .guestLeft(.destroyed), .linkBroken, .backupSilent, .backupLeft: false
        }
    }

    private func writeOut(until deadline: MonotonicTime) {
        while isLinkUsable, writer.hasWork(ring), MonotonicTime.now < deadline {
            sendWhenTaken(until: deadline)
        }
    }

    /// Waits for nothing but the link. The turn under way may still ask what `polls` has found.
    private func sendWhenTaken(until deadline: MonotonicTime) {
        var linkOnly = PollSet()
        linkOnly.add(link, writing: true)
        linkOnly.wait(until: deadline)
        send()
    }
}
