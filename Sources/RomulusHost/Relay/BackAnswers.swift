import RomulusCore

/// The backup's end of the back channel: messages in, bytes out.
struct BackAnswers {
    private let descriptor: Int32
    private var queue: [UInt8] = []
    private var encoder = FrameEncoder()
    private(set) var isUsable: Bool

    /// - Parameter descriptor: -1 where there is none.
    init(descriptor: Int32) {
        self.descriptor = descriptor
        isUsable = descriptor >= 0
    }

    /// What is to be written to; -1 where nothing waits.
    var waitingDescriptor: Int32 { queue.isEmpty || !isUsable ? -1 : descriptor }

    /// - Returns: whether somebody may read it.
    mutating func queue(_ message: Message) -> Bool {
        // Acknowledgements of one epoch at a time and heartbeats: a queue this long has no reader.
        if queue.count > 64 << 10 { isUsable = false }
        guard isUsable else { return false }
        queue.append(contentsOf: encoder.frame(message))
        return true
    }

    /// As much as is taken now.
    mutating func write() {
        switch queue.withUnsafeBytes({ DescriptorIO.write(descriptor, $0) }) {
        case .bytes(let count):
            queue.removeFirst(count)
        case .wouldBlock:
            break
        case .endOfFile, .failed:
            // The link's other half says the same soon, with what it still carries.
            isUsable = false
        }
    }

    mutating func writeOut(until deadline: MonotonicTime) {
        while isUsable, !queue.isEmpty, MonotonicTime.now < deadline {
            var polls = PollSet()
            polls.add(descriptor, writing: true)
            polls.wait(until: deadline)
            write()
        }
    }

    /// One of the two is the last message, behind what waits.
    mutating func leave(ifItRuns: Message, ifItDoesNot: Message, nanoseconds: Int64) -> BackupFarewell {
        var other = encoder
        defer { queue = [] }
        return BackupFarewell(
            descriptor: descriptor, ifItRuns: queue + encoder.frame(ifItRuns),
            ifItDoesNot: queue + other.frame(ifItDoesNot), nanoseconds: nanoseconds)
    }
}
