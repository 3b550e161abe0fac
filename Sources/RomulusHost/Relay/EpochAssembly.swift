import RomulusCore

/// The epochs on their way from the link to libxl. The first part streams through; of what follows libxl gets whole epochs that
/// count, and nothing of any other.
final class EpochAssembly {
    private static let bufferCount = 3
    /// How far libxl may lag behind while the first part streams through.
    private static let streamingBytes = 8 << 20
    /// What a buffer may keep of the host's memory while it is empty.
    private static let keptBytes = 64 << 20

    private let memory: MappedMemory
    private let sinks: EpochSinks
    /// Oldest first; the last one is being collected.
    private var buffers: [EpochBuffer]
    private var freeBuffers: [EpochBuffer]
    private var releasedEpoch = Epoch.none

    /// - Parameter limitBytes: the most that one epoch may take.
    init(limitBytes: Int, sinks: EpochSinks) throws(SystemError) {
        let perBuffer = (limitBytes + 4095) & ~4095
        memory = try MappedMemory(byteCount: perBuffer * Self.bufferCount)
        let all = memory.bytes
        freeBuffers = (0..<Self.bufferCount).map { index in
            EpochBuffer(
                storage: UnsafeMutableRawBufferPointer(rebasing: all[index * perBuffer..<(index + 1) * perBuffer]))
        }
        var first = freeBuffers.removeLast()
        first.isReleased = true
        buffers = [first]
        self.sinks = sinks
    }

    var byteCount: Int { memory.bytes.count }

    // MARK: From the link

    /// There is a buffer for the epoch under way.
    var isCollecting: Bool { buffers.last.map { !$0.isComplete } ?? false }

    /// Without room to put bytes into, the link waits, and with it the primary. In frames the acknowledgement waits instead
    /// (`BackupSession.setRoom`): then only messages can come, and a primary must be heard.
    func canTakeIn(isFramed: Bool) -> Bool {
        guard let current = buffers.last, !current.isComplete else { return isFramed }
        guard current.isReleased else { return true }
        return current.waiting.count < min(Self.streamingBytes, current.storage.count / 2) && !sinks.isBehind
    }

    func append(_ piece: UnsafeRawBufferPointer) throws(StreamError) {
        try buffers[buffers.count - 1].append(piece)
        if buffers[buffers.count - 1].isReleased { sinks.streamed(piece) }
    }

    /// All of the epoch under way has arrived.
    func complete() throws(StreamError) {
        let current = buffers.count - 1
        // The first part has streamed through and is libxl's to judge.
        if !buffers[current].isReleased { _ = try EpochCheck.pageCount(of: buffers[current].bytes) }
        buffers[current].isComplete = true
    }

    func beginNext() {
        if let next = freeBuffers.popLast() { buffers.append(next) }
    }

    /// Everything complete is libxl's once the session has counted it.
    func release(upTo lastEpoch: Epoch) {
        guard lastEpoch > releasedEpoch else { return }
        releasedEpoch = lastEpoch
        // The first part streams through, and may have gone before its EPOCH_END came.
        let index = buffers.lastIndex(where: \.isComplete)
        sinks.completed(releasedEpoch, index.map { buffers[$0].bytes })
        if let index { buffers[index].isReleased = true }
    }

    // MARK: To libxl

    /// What libxl is to get next; nil where there is nothing for it.
    var waiting: UnsafeRawBufferPointer? {
        guard let oldest = buffers.first, oldest.isReleased, !oldest.waiting.isEmpty else { return nil }
        return oldest.waiting
    }

    /// - Returns: whether a buffer has become free by it.
    func didHandOn(_ count: Int) -> Bool {
        buffers[0].didHandOn(count)
        guard buffers[0].isHandedOn else { return false }
        var buffer = buffers.removeFirst()
        // A large epoch is the exception: its memory is the host's again.
        if buffer.filledBytes > Self.keptBytes { MappedMemory.discard(buffer.storage) }
        buffer.reset()
        if isCollecting { freeBuffers.append(buffer) } else { buffers.append(buffer) }
        return true
    }
}
