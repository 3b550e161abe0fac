import RomulusCore

/// The primary's link: what goes out, in its order, out of staging and of the relay's own, and what is answered.
final class PrimaryLink {
    private enum FramesWanted {
        case no
        case begin(LinkTerms)
        case begun
    }

    let staging: Staging
    let descriptor: Int32
    private(set) var back: BackChannel
    /// Nothing has failed to be written.
    private(set) var isUsable = true
    private var writer: LinkWriter
    private var stream = OutgoingStream()
    private var framesWanted = FramesWanted.no
    /// The first epoch's end waits until the backup has heard everything before it.
    private var firstEpochEnd: Message?
    /// The last epoch whose CHECKPOINT_END has been written.
    private(set) var epochsStaged = Epoch.none

    init(_ descriptor: Int32, back: Int32, staging: Staging) {
        self.descriptor = descriptor
        self.back = BackChannel(descriptor: back)
        self.staging = staging
        writer = LinkWriter(link: descriptor)
    }

    struct Flags {
        fileprivate let link: Int32
        fileprivate let back: Int32
    }

    /// - Returns: what `restore` wants.
    func becomeNonBlocking() -> Flags {
        Flags(
            link: DescriptorIO.setNonBlocking(descriptor),
            back: back.isOpen ? DescriptorIO.setNonBlocking(back.descriptor) : -1)
    }

    func restore(_ flags: Flags) {
        DescriptorIO.restoreFlags(descriptor, flags.link)
        DescriptorIO.restoreFlags(back.descriptor, flags.back)
    }

    // MARK: What goes out

    var isFramed: Bool { writer.isFramed }
    /// Nothing is half written.
    var isIdle: Bool { writer.isIdle }
    var hasWork: Bool { isUsable && writer.hasWork(staging.ring) }
    /// What makes a stock backup let go of its replica where the stream ends now; nil where it has none.
    var stockFarewell: [UInt8]? { stream.stockFarewell }

    /// - Parameter mayComposeData: the session's word.
    func setRoom(_ mayComposeData: Bool) { writer.mayComposeData = mayComposeData }

    func queue(_ message: Message) { writer.queue(message) }
    func queue(record: [UInt8]) { writer.queue(record: record) }
    func takeComposed() -> [(frame: PrimarySession.ComposedFrame, at: MonotonicTime)] { writer.takeComposed() }

    /// Writes as much of one item as the link takes.
    func write() -> LinkWriter.Progress {
        let progress = writer.write(&staging.ring, &stream)
        if case .failed = progress { isUsable = false }
        return progress
    }

    /// Waits for nothing but the link.
    func awaitRoom(until deadline: MonotonicTime) {
        var polls = PollSet()
        polls.add(descriptor, writing: true)
        polls.wait(until: deadline)
    }

    // MARK: At the stream's landmarks

    func announce(_ configuration: PrimaryRelay.Configuration) {
        guard back.descriptor >= 0 else { return }
        let features: Features = configuration.pages == nil ? [] : .encodedData
        queue(record: Announcement(features: features, run: configuration.run).encoded())
    }

    /// At the next record's boundary.
    func wantFrames(_ terms: LinkTerms) {
        framesWanted = .begin(terms)
        stream.isLookingForRecordBoundary = true
    }

    func beginWantedFrames(_ settings: PageSettings?, _ log: Log) {
        guard case .begin(let terms) = framesWanted else { return }
        framesWanted = .begun
        stream.framesBegin()
        writer.queue(record: FramesBegin.encoded(version: terms.version), then: .framesBegun)
        writer.beginFrames()
        guard let settings, terms.pageSlots >= PageCache.fewestSlots else { return }
        do throws(SystemError) {
            writer.pages = try PageEncoding(settings, slots: terms.pageSlots)
        } catch {
            log.warning("no memory to encode pages with (\(error)): they go as they are; lower page_cache_mib")
        }
    }

    /// No private record may follow in a stock stream.
    func wantFramesNoMore() { stream.isLookingForRecordBoundary = false }

    /// CHECKPOINT_END has been written.
    func checkpointEnded(pages: Int, streamBytes: UInt64) -> EpochSize {
        epochsStaged = epochsStaged.next
        return EpochSize(pages: pages, streamBytes: streamBytes, linkBytes: writer.takeStreamBytes())
    }

    /// - Parameter isFree: the session's word; otherwise `endFirstEpoch` does it.
    func endEpoch(streamBytes: UInt64, isFree: Bool) {
        let message = Message.epochEnd(epochsStaged, streamBytes: streamBytes)
        if isFree { writer.queue(message, then: .epochEndSent) } else { firstEpochEnd = message }
    }

    /// - Returns: whether there was one to end.
    func endFirstEpoch(isFree: Bool) -> Bool {
        guard let message = firstEpochEnd, isFree else { return false }
        firstEpochEnd = nil
        writer.queue(message, then: .epochEndSent)
        return true
    }

    /// Nothing more of the stream is to be sent; what has begun is finished.
    func closeStream() {
        writer.isStreamClosed = true
        firstEpochEnd = nil
        staging.close()
    }

    // MARK: What is answered

    func receive() -> BackChannel.Received { back.receive() }
}
