import Foundation

/// Finds the frames in the link's bytes by what docs/protocol.md says of them, and with nothing of the code under test.
struct FrameScanner {
    /// A byte of the link, named by the frame that it is in.
    struct Place: Equatable, Sendable, CustomStringConvertible {
        enum Frame: Equatable, Sendable {
            /// The n-th DATA frame, from 1, after that many EPOCH_ENDs.
            case data(number: Int, afterEpoch: Int)
            case epochEnd(Int)
        }

        var frame: Frame
        /// From the frame's header on.
        var offset: Int

        init(_ frame: Frame, _ offset: Int) { (self.frame, self.offset) = (frame, offset) }

        var description: String { "\(frame) + \(offset)" }
    }

    static let headerBytes = 20
    private static let dataTypes: [UInt32] = [1, 5]
    private static let epochEndType: UInt32 = 2
    /// FRAMES_BEGIN's type and body length.
    private static let begin: [UInt8] = [0x02, 0x4D, 0x52, 0x80, 8, 0, 0, 0]
    private static let beginBytes = 16

    let wanted: Place.Frame
    /// Where the wanted frame begins, once its header has passed.
    private(set) var start: Int?

    private var hasBegun = false
    private var pending: [UInt8] = []
    /// The link's offset of `pending`'s first byte.
    private var pendingStart = 0
    private var bytesToSkip = 0
    private var epochs = 0
    private var dataFrames = 0

    init(_ wanted: Place.Frame) { self.wanted = wanted }

    mutating func scan(_ bytes: some Sequence<UInt8>) {
        guard start == nil else { return }
        pending.append(contentsOf: bytes)
        if !hasBegun { findBeginning() }
        while hasBegun, start == nil {
            let skipped = min(bytesToSkip, pending.count)
            drop(skipped)
            bytesToSkip -= skipped
            guard bytesToSkip == 0, pending.count >= Self.headerBytes else { return }
            takeHeader()
        }
    }

    private mutating func findBeginning() {
        let found = Data(pending).range(of: Data(Self.begin))?.lowerBound
        drop(found ?? max(0, pending.count - Self.begin.count + 1))
        guard found != nil else { return }
        hasBegun = true
        bytesToSkip = Self.beginBytes
    }

    private mutating func takeHeader() {
        let (type, length) = pending.withUnsafeBytes {
            ($0.loadUnaligned(as: UInt32.self), $0.loadUnaligned(fromByteOffset: 4, as: UInt32.self))
        }
        var frame: Place.Frame?
        if Self.dataTypes.contains(type) {
            dataFrames += 1
            frame = .data(number: dataFrames, afterEpoch: epochs)
        } else if type == Self.epochEndType {
            epochs += 1
            dataFrames = 0
            frame = .epochEnd(epochs)
        }
        if frame == wanted { start = pendingStart }
        bytesToSkip = Self.headerBytes + Int(length)
    }

    private mutating func drop(_ count: Int) {
        pending.removeFirst(count)
        pendingStart += count
    }
}
