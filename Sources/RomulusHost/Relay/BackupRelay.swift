import CLinux
import Glibc
import RomulusCore
import Synchronization

/// Stands between the link and libxl on the backup, on one thread of its own.
///
///     ssh ──▶ link ──▶ frames ──▶ stock stream ──▶ epoch buffers ──▶ pipe ──▶ libxl and its helper
///     ssh ◀── back channel ◀── session
///
/// The part up to the first complete checkpoint streams through; from then on libxl sees whole epochs only.
public final class BackupRelay: @unchecked Sendable {
    public struct Configuration: Sendable {
        public var guest: String
        public var session: BackupSession.Configuration
        /// The most that one epoch may take of memory; three are kept at a time.
        public var epochLimitBytes: Int
        public var farewellNanoseconds: Int64 = 1_000_000_000
        /// Of the relay's thread; 0 is none.
        public var realtimePriority: Int

        public init(
            guest: String, session: BackupSession.Configuration, epochLimitBytes: Int, realtimePriority: Int = 0
        ) {
            self.guest = guest
            self.session = session
            self.epochLimitBytes = epochLimitBytes
            self.realtimePriority = realtimePriority
        }
    }

    /// The world beside the link. What is nil is not there.
    public struct Ports {
        /// Made when the primary has announced itself, by the name of its run.
        public var arbiter: (_ run: UInt64) -> ArbiterDesk?
        public var admin: AdminSocket?
        /// Goes with `BackupSession.Configuration.hasSecondOpinion`.
        public var suspicion: SuspicionPlugins?
        public var sinks: EpochSinks
        public var metrics: MetricsFile?

        public init(
            arbiter: @escaping (_ run: UInt64) -> ArbiterDesk? = { _ in nil }, admin: AdminSocket? = nil,
            suspicion: SuspicionPlugins? = nil, sinks: EpochSinks = EpochSinks(), metrics: MetricsFile? = nil
        ) {
            self.arbiter = arbiter
            self.admin = admin
            self.metrics = metrics
            self.suspicion = suspicion
            self.sinks = sinks
        }
    }

    public struct Outcome: Sendable {
        public var end: BackupSession.End
        public var lastEpoch: Epoch
        public var lastHeardAt: MonotonicTime
        public var decidedAt: MonotonicTime
        /// When libxl had all it will get.
        public var closedAt: MonotonicTime
        /// By the arbiter, or by the admin's word where that is kept; not by the primary, nor by time.
        public var isArbitrated: Bool
        /// To be said when the restored replica runs, or will not; nil where nobody hears it, or it was said.
        public var farewell: BackupFarewell?
    }

    private static let receiveBytes = 1 << 20
    /// How far libxl may lag behind while the first part streams through.
    private static let streamingBytes = 8 << 20
    private static let bufferCount = 3
    /// What a buffer may keep of the host's memory while it is empty.
    private static let keptBytes = 64 << 20

    /// What libxl restores from, in place of the link.
    public let streamForLibxl: Descriptor

    // Owned by the relay's thread from `start` to `join`.
    private let link: Int32
    private let back: Int32
    private let ports: Ports
    private let signals: Descriptor
    private let restoreReturned: Descriptor
    private let begun: Descriptor
    private let hasBegun = Atomic(false)
    private let isRestored = Atomic(false)
    private var feed: Int32
    private let log: Log
    private let configuration: Configuration

    private var session: BackupSession
    private var incoming = IncomingStream()
    private var decoder = FrameDecoder()
    private let pages: PageDecoding?
    private var encoder = FrameEncoder()
    private let receiveMemory: MappedMemory
    private var received = 0..<0
    private let epochMemory: MappedMemory
    /// Oldest first; the last one is being collected.
    private var buffers: [EpochBuffer]
    private var freeBuffers: [EpochBuffer]
    private var backQueue: [UInt8] = []
    private var isBackUsable: Bool
    private var metrics: BackupMetrics
    private var end: BackupSession.End?
    private let startedAt = MonotonicTime.now
    private var lastHeardAt = MonotonicTime.now
    private var decidedAt = MonotonicTime.now
    private var closedAt = MonotonicTime.now
    private var hasPassedHeader = false
    private var isBeginningAnnounced = false
    private var releasedEpoch = Epoch.none
    private var isFeedBroken = false
    /// It has neither ended nor lied.
    private var isLinkWhole = true
    private var desk: DecisionDesk
    private var isArbitrated = false
    private var farewell: BackupFarewell?
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
        feed = stream.other.release()
        signals = try Descriptor.event()
        restoreReturned = try Descriptor.event()
        begun = try Descriptor.event()
        let slots = configuration.session.pageSlots
        pages = slots > 0 ? try PageDecoding(slots: slots) : nil
        receiveMemory = try MappedMemory(byteCount: Self.receiveBytes)
        let perBuffer = (configuration.epochLimitBytes + 4095) & ~4095
        epochMemory = try MappedMemory(byteCount: perBuffer * Self.bufferCount)

        let all = epochMemory.bytes
        freeBuffers = (0..<Self.bufferCount).map { index in
            EpochBuffer(
                storage: UnsafeMutableRawBufferPointer(rebasing: all[index * perBuffer..<(index + 1) * perBuffer]))
        }
        var first = freeBuffers.removeLast()
        first.isReleased = true
        buffers = [first]

        self.link = link
        self.back = back
        self.configuration = configuration
        metrics = BackupMetrics(guest: configuration.guest)
        self.ports = ports
        desk = DecisionDesk(admin: ports.admin, arbiter: nil, log: log)
        self.log = log
        isBackUsable = back >= 0
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
    public func waitForStream() -> Bool {
        var polls = PollSet()
        polls.add(begun.raw, reading: true)
        while !polls.isReady(0) { polls.wait(until: nil) }
        return hasBegun.load(ordering: .acquiring)
    }

    /// Ends the relay after libxl's restore has returned. The primary hears of one that failed; of the other when it runs
    /// (`Outcome.farewell`).
    public func join(isRestored: Bool) -> Outcome {
        self.isRestored.store(isRestored, ordering: .releasing)
        restoreReturned.signal()
        thread?.join()
        return Outcome(
            end: end ?? .discard(cause: "the restore ended early"), lastEpoch: session.lastEpoch,
            lastHeardAt: lastHeardAt, decidedAt: decidedAt, closedAt: closedAt, isArbitrated: isArbitrated,
            farewell: farewell)
    }

    // MARK: The thread

    private func run() {
        Urgency.raise(to: configuration.realtimePriority, log)
        let linkFlags = DescriptorIO.setNonBlocking(link)
        let backFlags = back >= 0 ? DescriptorIO.setNonBlocking(back) : -1
        _ = DescriptorIO.setNonBlocking(feed)

        while end == nil {
            turn()
            if hasPassedHeader, end == nil { announceBeginning(true) }
        }
        announceBeginning(false)
        if case .failOver? = end { handOnTheRest() }
        closedAt = .now
        closeFeed()
        tellOfFailover()
        sayLastWords()
        desk.arbiter?.close()
        ports.metrics?.close()

        DescriptorIO.restoreFlags(link, linkFlags)
        if back >= 0 { DescriptorIO.restoreFlags(back, backFlags) }
    }

    private func tellOfFailover() {
        guard case .failOver(let cause)? = end else { return }
        var polls = PollSet()
        polls.add(restoreReturned.raw, reading: true)
        while !polls.isReady(0) { polls.wait(until: nil) }
        guard isBackUsable, let failure = session.farewell(afterRestore: false, cause: cause),
            let success = session.farewell(afterRestore: true, cause: cause)
        else { return }
        guard isRestored.load(ordering: .acquiring) else { return perform([.send(failure)]) }
        var other = encoder
        farewell = BackupFarewell(
            descriptor: back, ifItRuns: backQueue + encoder.frame(success),
            ifItDoesNot: backQueue + other.frame(failure),
            nanoseconds: configuration.farewellNanoseconds)
        backQueue = []
    }

    private func announceBeginning(_ isThere: Bool) {
        guard !isBeginningAnnounced else { return }
        isBeginningAnnounced = true
        hasBegun.store(isThere, ordering: .releasing)
        begun.signal()
    }

    private func turn() {
        // What has arrived already may wait for a buffer; go on with it before anything else.
        let isListening = canTakeIn && !session.isSuspecting
        session.setListening(isListening, now: .now)

        polls.reset()
        let signalIndex = polls.add(signals.raw, reading: true)
        let returnIndex = polls.add(restoreReturned.raw, reading: true)
        let linkIndex = polls.add(isListening || canHearFarewell ? link : -1, reading: true)
        let feedIndex = polls.add(feed, writing: hasSomethingToHandOn)
        let backIndex = polls.add(backQueue.isEmpty || !isBackUsable ? -1 : back, writing: true)
        let verdictIndex = polls.add(desk.verdictDescriptor, reading: true)
        let adminIndex = polls.add(desk.adminDescriptor, reading: true)
        let suspicionIndex = polls.add(ports.suspicion?.descriptor ?? -1, reading: true)
        ports.sinks.add(to: &polls)
        polls.wait(until: nextDeadline)

        if polls.isReady(returnIndex) || (polls.isBroken(feedIndex) && !hasSomethingToHandOn) {
            perform(session.handle(.restorerFailed, now: .now))
            return
        }
        lookAtSinks()
        if polls.isReady(linkIndex) { isListening ? receive() : hearFarewell() }
        if polls.isReady(feedIndex) { handOn() }
        if polls.isReady(backIndex) { answer() }
        if polls.isReady(verdictIndex) { hearVerdict() }
        if polls.isReady(adminIndex) { hearAdmin() }
        if polls.isReady(signalIndex), let name = signals.takeSignalName() {
            perform(session.handle(.stopRequested(signalName: name), now: .now))
        }
        if polls.isReady(suspicionIndex) || ports.suspicion?.deadline != nil { hearSecondOpinion() }
        if isListening, canTakeIn { readWhatIsLate() }
        perform(session.timePassed(now: .now))
        tellMetrics()
    }

    private func tellMetrics() {
        if session.lastEpoch != metrics.epoch { metrics.lastEpochTime = Int64(time(nil)) }
        metrics.epoch = session.lastEpoch
        metrics.state = state
        ports.metrics?.update { [metrics, lastHeardAt] in
            var metrics = metrics
            metrics.silenceNanoseconds = .now - lastHeardAt
            return metrics.text
        }
    }

    /// This thread may have overslept: what has come meanwhile, a farewell perhaps, is read before the primary is given up.
    private func readWhatIsLate() {
        guard let deadline = session.deadline, MonotonicTime.now >= deadline, !session.isSuspecting else { return }
        polls.reset()
        polls.add(link, reading: true)
        polls.wait(until: .now)
        if polls.isReady(0) { receive() }
    }

    private var nextDeadline: MonotonicTime? {
        [session.deadline, ports.suspicion?.deadline, ports.sinks.deadline].compactMap { $0 }.min()
    }

    private func hearSecondOpinion() {
        guard let patience = ports.suspicion?.takeAnswer(now: .now) else { return }
        perform(session.handle(.secondOpinion(patienceNanoseconds: patience), now: .now))
    }

    /// One that was behind may have taken what held the link up.
    private func lookAtSinks() {
        guard !ports.sinks.isEmpty else { return }
        ports.sinks.giveUpWhoIsStuck()
        digest()
    }

    private func hearAdmin() {
        guard let word = desk.hear(status: { status }) else { return }
        guard session.isSuspecting else {
            let actions = session.handle(.adminSaid(word), now: .now)
            let isTaken = !actions.isEmpty || (word == .yield && session.isAskedToStop)
            desk.answer(isTaken ? "ok" : "nothing to decide: the primary is heard")
            return perform(actions)
        }
        needArbiter()
        if desk.settle(word) { perform(session.handle(.adminSaid(word), now: .now)) }
    }

    private func hearVerdict() {
        let wasOpen = end == nil
        defer { isArbitrated = wasOpen && end != nil }
        switch desk.arbiter?.takeAnswer() {
        case .verdict(let verdict): perform(session.handle(.verdict(verdict), now: .now))
        case .word(let word, _): perform(session.handle(.adminSaid(word), now: .now))
        case .withdrawn: perform(session.handle(.questionWithdrawn, now: .now))
        case nil: break
        }
    }

    private var state: SessionState {
        if session.hasEnded { return .ending }
        if session.isSuspecting { return .deciding }
        if session.lastEpoch == .none { return .copying }
        return session.isFramed ? .protected : .stock
    }

    private var status: SessionStatus {
        SessionStatus(
            guest: configuration.guest, side: .backup, state: state, epoch: session.lastEpoch, startedAt: startedAt,
            lastEvent: log.newestEvent,
            details: [
                .init("arbiter", .string("\(configuration.session.arbiter)")),
                .init(
                    "buffers_kib",
                    .integer(Int64((epochMemory.bytes.count >> 10) + configuration.session.pageSlots * 4))),
                .init("silence_ms", .milliseconds(.now - lastHeardAt)),
            ])
    }

    // MARK: From the link to the epoch buffers

    /// Without room to put bytes into, the link waits, and with it the primary. In frames the acknowledgement waits instead
    /// (`updateRoom`): then only messages can come, and a primary must be heard.
    private var canTakeIn: Bool {
        guard let current = buffers.last, !current.isComplete else { return session.isFramed }
        guard current.isReleased else { return true }
        return current.waiting.count < min(Self.streamingBytes, current.storage.count / 2)
            && !ports.sinks.isBehind
    }

    private func updateRoom() { perform(session.setRoom(buffers.last.map { !$0.isComplete } ?? false)) }

    private func receive() {
        guard received.count < receiveMemory.bytes.count else { return digest() }
        switch readLink() {
        case .bytes:
            lastHeardAt = .now
            perform(session.handle(.heard, now: lastHeardAt))
            digest()
        case .wouldBlock:
            break
        case .endOfFile:
            perform(session.handle(.linkEnded, now: .now))
        case .failed(let error):
            perform(session.handle(.linkBroken("reading from the link failed (\(error))"), now: .now))
        }
    }

    /// What has arrived goes behind what is there, which is less than there is room for.
    private func readLink() -> Transfer {
        let memory = receiveMemory.bytes
        if received.upperBound == memory.count {
            // Frames fit into the buffer several times over, so there is always room in front.
            memory.copyMemory(from: UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(memory)[received]))
            received = 0..<received.count
        }
        let transfer = DescriptorIO.read(
            link, into: UnsafeMutableRawBufferPointer(rebasing: memory[received.upperBound...]))
        switch transfer {
        case .bytes(let count): received = received.lowerBound..<received.upperBound + count
        case .wouldBlock: break
        case .endOfFile, .failed: isLinkWhole = false
        }
        return transfer
    }

    /// In a suspicion, while the link may come back: nothing else is taken in any more, and nothing is said to have been heard.
    private var canHearFarewell: Bool {
        session.listensForFarewell && isLinkWhole && received.count < Self.receiveBytes
    }

    private func hearFarewell() {
        guard case .bytes = readLink() else { return }
        let memory = UnsafeRawBufferPointer(receiveMemory.bytes)
        do {
            while end == nil, let next = try decoder.next(in: UnsafeRawBufferPointer(rebasing: memory[received])) {
                received = received.lowerBound + next.totalBytes..<received.upperBound
                if case .message(let message) = next.frame { perform(session.handle(.received(message), now: .now)) }
            }
        } catch {
            isLinkWhole = false
        }
    }

    /// Takes apart what has been received, as far as it is whole and there is room for it.
    private func digest() {
        while end == nil, !session.isSuspecting, canTakeIn, !received.isEmpty {
            let bytes = UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(receiveMemory.bytes)[received])
            do {
                let passed = try session.isFramed ? digestFrame(bytes) : try digestStream(bytes)
                if passed == 0 { break }
                received = received.lowerBound + passed..<received.upperBound
            } catch StreamError.epochTooLong(let limitBytes) {
                perform(session.handle(.epochTooLarge(limitBytes: limitBytes), now: .now))
            } catch {
                isLinkWhole = false
                perform(session.handle(.linkBroken("what arrived is damaged (\(error))"), now: .now))
            }
        }
        if received.isEmpty { received = 0..<0 }
    }

    private func digestFrame(_ bytes: UnsafeRawBufferPointer) throws -> Int {
        guard let next = try decoder.next(in: bytes) else { return 0 }
        perform(session.handle(.frameTaken(bytes: next.totalBytes, count: decoder.frameCount), now: .now))
        switch next.frame {
        case .message(let message):
            perform(session.handle(.received(message), now: .now))
            releaseComplete()
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
            guard let current = buffers.last, !current.isComplete else { throw StreamError.bytesAfterEnd }
            offset += try digestStream(UnsafeRawBufferPointer(rebasing: payload[offset...]))
        }
    }

    /// Moves a piece of the stock stream into the buffer that collects, up to the next landmark.
    private func digestStream(_ bytes: UnsafeRawBufferPointer) throws(StreamError) -> Int {
        let (passed, landmark) = try incoming.advance(over: bytes)
        hasPassedHeader = hasPassedHeader || incoming.hasPassedHeader
        let piece = UnsafeRawBufferPointer(rebasing: bytes[..<passed])
        try buffers[buffers.count - 1].append(piece)
        if buffers[buffers.count - 1].isReleased { ports.sinks.streamed(piece) }
        switch landmark {
        case nil:
            break
        case .announced(let announcement)?:
            perform(session.handle(.announced(announcement), now: .now))
        case .framesBegin(let version)?:
            perform(session.handle(.framesBegun(version), now: .now))
        case .epochEnd(let streamBytes)?:
            try epochArrived(streamBytes: streamBytes)
        }
        return passed
    }

    private func epochArrived(streamBytes: UInt64) throws(StreamError) {
        let current = buffers.count - 1
        // The first part has streamed through and is libxl's to judge.
        if !buffers[current].isReleased { _ = try EpochCheck.pageCount(of: buffers[current].bytes) }
        buffers[current].isComplete = true
        perform(session.handle(.epochReceived(streamBytes: streamBytes), now: .now))
        releaseComplete()
        if let next = freeBuffers.popLast() { buffers.append(next) }
        updateRoom()
    }

    /// Everything complete is libxl's once the session has counted it.
    private func releaseComplete() {
        guard session.lastEpoch > releasedEpoch else { return }
        releasedEpoch = session.lastEpoch
        // The first part streams through, and may have gone before its EPOCH_END came.
        let index = buffers.lastIndex(where: \.isComplete)
        ports.sinks.completed(releasedEpoch, index.map { buffers[$0].bytes })
        if let index { buffers[index].isReleased = true }
    }

    // MARK: From the epoch buffers to libxl

    private var hasSomethingToHandOn: Bool {
        guard let oldest = buffers.first else { return false }
        return oldest.isReleased && !oldest.waiting.isEmpty
    }

    private func handOn() {
        while hasSomethingToHandOn {
            switch DescriptorIO.write(feed, buffers[0].waiting) {
            case .bytes(let count):
                buffers[0].didHandOn(count)
                if buffers[0].isHandedOn { recycleOldest() }
            case .wouldBlock:
                return
            case .endOfFile, .failed:
                perform(session.handle(.restorerFailed, now: .now))
                isFeedBroken = true
                return
            }
        }
        // A buffer may have become free for bytes that wait.
        digest()
    }

    private func recycleOldest() {
        var buffer = buffers.removeFirst()
        // A large epoch is the exception: its memory is the host's again.
        if buffer.filledBytes > Self.keptBytes { MappedMemory.discard(buffer.storage) }
        buffer.reset()
        if buffers.last.map(\.isComplete) ?? true { buffers.append(buffer) } else { freeBuffers.append(buffer) }
        updateRoom()
    }

    /// All complete epochs, and nothing of an incomplete one. Bounded by what libxl takes.
    private func handOnTheRest() {
        while hasSomethingToHandOn, !isFeedBroken {
            polls.reset()
            let feedIndex = polls.add(feed, writing: true)
            let returnIndex = polls.add(restoreReturned.raw, reading: true)
            polls.wait(until: nil)
            if polls.isReady(returnIndex) { return }
            if polls.isReady(feedIndex) { handOn() }
        }
    }

    private func closeFeed() {
        close(feed)
        feed = -1
    }

    // MARK: The back channel

    private func answer() {
        switch backQueue.withUnsafeBytes({ DescriptorIO.write(back, $0) }) {
        case .bytes(let count):
            backQueue.removeFirst(count)
        case .wouldBlock:
            break
        case .endOfFile, .failed:
            // The link's other half says the same soon, with what it still carries.
            isBackUsable = false
        }
    }

    private func perform(_ actions: [BackupSession.Action]) {
        for action in actions {
            switch action {
            case .send(let message):
                // Acknowledgements of one epoch at a time and heartbeats: a queue this long has no reader.
                if backQueue.count > 64 << 10 { isBackUsable = false }
                guard isBackUsable else { continue }
                backQueue.append(contentsOf: encoder.frame(message))
                perform(session.handle(.messageSent, now: .now))
                answer()
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

    private func needArbiter() {
        guard desk.arbiter == nil, configuration.session.arbiter != .none else { return }
        desk.arbiterIsThere(session.run.flatMap(ports.arbiter))
    }

    private func sayLastWords() {
        let deadline = MonotonicTime.now + configuration.farewellNanoseconds
        while isBackUsable, !backQueue.isEmpty, MonotonicTime.now < deadline {
            polls.reset()
            polls.add(back, writing: true)
            polls.wait(until: deadline)
            answer()
        }
    }
}
