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
    public struct Configuration: Sendable {
        public var stagingBytes: Int
        public var periodNanoseconds: Int64
        public var patienceNanoseconds: Int64
        /// How long the last words may take to leave, and the backup's answer to them to arrive.
        public var farewellNanoseconds: Int64 = 1_000_000_000
        /// How often the guest is looked at.
        public var guestCheckNanoseconds: Int64 = 100_000_000

        public init(stagingBytes: Int, periodNanoseconds: Int64, patienceNanoseconds: Int64) {
            self.stagingBytes = stagingBytes
            self.periodNanoseconds = periodNanoseconds
            self.patienceNanoseconds = patienceNanoseconds
        }
    }

    /// What the run came to, for the one who decides what becomes of the guest.
    public struct Outcome: Sendable {
        public var end: PrimarySession.End
        public var acknowledgedEpoch: Epoch
        public var statistics: RunStatistics
        /// The backup knows what becomes of the guest here: it has answered the farewell with its own, or, where it is
        /// stock, was sent one that it cannot misunderstand.
        public var wasFarewellHeard: Bool
        /// The backup has said that the replica runs, or is about to: this copy must not.
        public var isReplicaActive: Bool
    }

    /// What libxl writes its stream to, in place of the link.
    public let streamForLibxl: Descriptor
    /// What the helper's side of `HelperControl` listens on.
    public let controlForHelper: Descriptor

    // Owned by the relay's thread from `start` to `finish`; by the creator before and after.
    private let link: Int32
    private var back: BackChannel
    private let wake: Descriptor
    private let control: Descriptor
    private var streamEnd: Int32
    private let memory: MappedMemory
    private let log: Log
    private let configuration: Configuration
    private let trace: EpochTrace?
    private let guestLeave: @Sendable () -> PrimarySession.GuestLeave?
    private var nextGuestCheck: MonotonicTime

    private var session: PrimarySession
    private var ring: StagingRing
    private var outgoing = OutgoingStream()
    private var writer: LinkWriter
    private var end: PrimarySession.End?
    private var isLinkUsable = true
    private var statistics: RunStatistics
    private var backupFarewell: FarewellReason?
    private var overrunLimiter = MessageLimiter(intervalNanoseconds: 60_000_000_000)
    private var isFarewellQueued = false
    private var wasStockFarewellSent = false
    private var isHelperHere = true
    private var framesWanted = FramesWanted.no
    private var epochsStaged = Epoch.none
    private var polls = PollSet()

    private enum FramesWanted {
        case no
        case begin(ProtocolVersion)
        case begun
    }

    private var thread: Thread?
    private let lastWords = Mutex<(@Sendable (Outcome) -> Message)?>(nil)

    /// - Parameters:
    ///   - link: libxl's stream to the backup. Stays the caller's.
    ///   - back: the back channel, or -1.
    ///   - guestLeave: whether the guest has gone; asked on the relay's thread.
    public init(
        link: Int32, back: Int32, configuration: Configuration, log: Log, trace: EpochTrace? = nil,
        guestLeave: @escaping @Sendable () -> PrimarySession.GuestLeave? = { nil }
    ) throws(SystemError) {
        let stream = try Descriptor.pipe(bytes: configuration.stagingBytes)
        streamEnd = stream.one.release()
        streamForLibxl = stream.other
        let controls = try Descriptor.messageSockets()
        control = controls.one
        controlForHelper = controls.other
        wake = try Descriptor.event()
        memory = try MappedMemory(byteCount: configuration.stagingBytes)
        ring = StagingRing(storage: memory.bytes)

        self.link = link
        self.back = BackChannel(descriptor: back)
        self.configuration = configuration
        self.log = log
        self.trace = trace
        self.guestLeave = guestLeave
        nextGuestCheck = .now
        writer = LinkWriter(link: link)
        statistics = RunStatistics(startedAt: .now)
        session = PrimarySession(
            configuration: .init(
                patienceNanoseconds: configuration.patienceNanoseconds, hasBackChannel: back >= 0), now: .now)
    }

    /// Where a signal handler leaves its mark (romulus_catch_signals).
    public var signalEvent: Int32 { wake.raw }

    public func start() throws(SystemError) {
        _ = HelperControl.send(.begin(periodNanoseconds: configuration.periodNanoseconds), on: control.raw)
        thread = try Thread(name: "romulus-relay") { [self] in run() }
    }

    public var linkDescriptor: Int32 { link }

    /// Ends the relay after libxl is done: says the last words where the link still carries them, and waits (bounded)
    /// until the backup has heard them.
    ///
    /// - Parameter lastWords: chooses the farewell by what the run came to.
    public func finish(lastWords choose: @escaping @Sendable (Outcome) -> Message) -> Outcome {
        lastWords.withLock { $0 = choose }
        var one: UInt64 = 1
        _ = Glibc.write(wake.raw, &one, 8)
        thread?.join()
        return outcome
    }

    private var outcome: Outcome {
        Outcome(
            end: end ?? .saveEnded, acknowledgedEpoch: session.acknowledgedEpoch, statistics: statistics,
            wasFarewellHeard: wasStockFarewellSent || (isFarewellQueued && backupFarewell != nil),
            isReplicaActive: backupFarewell == .replicaActivated)
    }

    // MARK: The thread

    private func run() {
        let linkFlags = DescriptorIO.setNonBlocking(link)
        let backFlags = back.isOpen ? DescriptorIO.setNonBlocking(back.descriptor) : -1
        _ = DescriptorIO.setNonBlocking(streamEnd)

        while !isFinishing { turn() }
        perform(session.handle(.saveEnded, now: .now))
        sayLastWords()

        closeStream()
        DescriptorIO.restoreFlags(link, linkFlags)
        DescriptorIO.restoreFlags(back.descriptor, backFlags)
    }

    private var isFinishing: Bool { lastWords.withLock { $0 != nil } }

    /// One round: wait, then drain, listen and send.
    private func turn() {
        polls.reset()
        let wakeIndex = polls.add(wake.raw, reading: true)
        let controlIndex = polls.add(isHelperHere ? control.raw : -1, reading: true)
        let streamIndex = polls.add(ring.freeBytes > 0 ? streamEnd : -1, reading: true)
        let backIndex = polls.add(back.isOpen ? back.descriptor : -1, reading: true)
        let wantsLink = isLinkUsable && writer.hasWork(ring)
        let linkIndex = polls.add(wantsLink ? link : -1, writing: true)
        polls.wait(until: min(session.deadline ?? nextGuestCheck, nextGuestCheck))

        if polls.isReady(wakeIndex) { readSignals() }
        if polls.isReady(controlIndex) { readReports() }
        if polls.isReady(streamIndex) { drain() }
        if polls.isReady(backIndex) { listen() }
        if polls.isReady(linkIndex) { send() }
        // With nothing to write, the link is not standing still.
        if !wantsLink, !session.isFramed { perform(session.handle(.linkMoved, now: .now)) }
        lookAtGuest()
        perform(session.timePassed(now: .now))
    }

    private func lookAtGuest() {
        guard MonotonicTime.now >= nextGuestCheck else { return }
        nextGuestCheck = .now + configuration.guestCheckNanoseconds
        guard !session.hasEnded, let leave = guestLeave() else { return }
        perform(session.handle(.guestLeft(leave), now: .now))
    }

    /// How much is drained before the link is looked at again: some milliseconds of copying.
    private static let drainBytes = 16 << 20

    /// The helper's and libxl's bytes, at memory speed, until the pipe is empty or the ring is full.
    private func drain() {
        var drained = 0
        while ring.freeBytes > 0 {
            switch DescriptorIO.read(streamEnd, into: ring.freeParts) {
            case .bytes(let count):
                ring.didWrite(count)
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
        if epochsStaged > .none { statistics.stagingWasFull() }
    }

    /// Whoever still writes gets EPIPE, and with it the stock code's own way out.
    private func closeStream() {
        guard streamEnd >= 0 else { return }
        close(streamEnd)
        streamEnd = -1
    }

    private func send() {
        switch writer.write(&ring, &outgoing) {
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
            if back.descriptor >= 0 { writer.queue(record: Announcement().encoded()) }
        case .stream(.recordBoundary):
            guard case .begin(let version) = framesWanted else { break }
            framesWanted = .begun
            outgoing.framesBegin()
            writer.queue(record: FramesBegin.encoded(version: version), then: .framesBegun)
            writer.beginFrames()
        case .stream(.firstCheckpoint):
            perform(session.handle(.firstCheckpointSent, now: .now))
            outgoing.isLookingForRecordBoundary = false
        case .stream(.checkpointEnd(let pages, let streamBytes)):
            statistics.epochStaged(pages: pages)
            epochsStaged = epochsStaged.next
            trace?.sent(epochsStaged, pages: pages, bytes: streamBytes, at: .now)
            if writer.isFramed {
                writer.queue(.epochEnd(epochsStaged, streamBytes: streamBytes), then: .epochEndSent)
            } else {
                perform(session.handle(.epochSent, now: .now))
            }
        case .framesBegun:
            perform(session.handle(.framesBegun, now: .now))
        case .epochEndSent:
            perform(session.handle(.epochSent, now: .now))
        }
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
        var mark: UInt64 = 0
        guard Glibc.read(wake.raw, &mark, 8) == 8, mark >> 32 != 0 else { return }
        let name = mark >> 48 != 0 ? "SIGHUP" : mark >> 40 != 0 ? "SIGTERM" : "SIGINT"
        perform(session.handle(.stopRequested(signalName: name), now: .now))
    }

    private func readReports() {
        while true {
            switch HelperControl.receiveReport(from: control.raw) {
            case .message(.resumed(let times)):
                statistics.epochResumed(times)
                trace?.resumed(times)
            case .message(.overruns(let count)): overran(count)
            case .nothing: return
            case .closed:
                isHelperHere = false
                perform(session.handle(.saveEnded, now: .now))
                return
            }
        }
    }

    private func overran(_ count: Int) {
        statistics.overrunCount = count
        guard overrunLimiter.passes(at: .now) else { return }
        let period = configuration.periodNanoseconds.inMilliseconds
        log.note("an epoch took longer than the period of \(period) ms, so the next began at once (\(count) so far)")
    }

    // MARK: The session's actions

    private func perform(_ actions: [PrimarySession.Action]) {
        for action in actions {
            switch action {
            case .beginFrames(let version):
                framesWanted = .begin(version)
                outgoing.isLookingForRecordBoundary = true
            case .send(let message):
                if case .farewell = message { isFarewellQueued = true }
                writer.queue(message)
            case .commit(let epoch):
                // The first copy has filled the ring; what follows needs a fraction of it.
                if epoch.rawValue == 1, ring.storedBytes == 0 { memory.discard(from: Self.drainBytes) }
                statistics.committed(epoch)
                trace?.committed(epoch, at: .now)
                _ = HelperControl.send(.commit(epoch), on: control.raw)
            case .log(let line):
                log.write(line)
            case .end(let end):
                self.end = end
                _ = HelperControl.send(.stop, on: control.raw)
                writer.isStreamClosed = true
                closeStream()
            }
        }
    }

    /// Finishes the frame under way, says farewell, and waits until the backup has taken its leave too.
    private func sayLastWords() {
        let deadline = MonotonicTime.now + (isBackupLost ? Self.hopelessNanoseconds : configuration.farewellNanoseconds)
        if !writer.isFramed {
            sayStockFarewell(until: deadline)
            return
        }
        guard isLinkUsable, backupFarewell == nil, let choose = lastWords.withLock({ $0 }) else { return }
        // What the helper said last may still be in its socket.
        readReports()
        if !isFarewellQueued { perform([.send(choose(outcome))]) }
        writeOut(until: deadline)
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
        switch end {
        case .linkBroken, .backupSilent: true
        case nil, .saveEnded, .stopRequested, .guestLeft, .backupLeft: false
        }
    }

    /// Only after a stop, which waits for the end of an epoch: everywhere else a stock backup is to take over, or the
    /// stream ends in the middle of a record.
    private func sayStockFarewell(until deadline: MonotonicTime) {
        guard case .stopRequested? = end, isLinkUsable, back.descriptor >= 0, session.acknowledgedEpoch > .none,
            writer.isIdle,
            outgoing.isBetweenLibxcRecords
        else { return }
        writer.queue(record: StockFarewell.epoch)
        writeOut(until: deadline)
        wasStockFarewellSent = isLinkUsable && writer.isIdle
    }

    private func writeOut(until deadline: MonotonicTime) {
        while isLinkUsable, writer.hasWork(ring), MonotonicTime.now < deadline {
            polls.reset()
            polls.add(link, writing: true)
            polls.wait(until: deadline)
            send()
        }
    }
}
