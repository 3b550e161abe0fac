/// Every frame number of a guest once, in an order that comes early to where an x86 guest has pages.
///
/// A guest of 160 MiB has 41,000 pages, the last of them just below 4 GiB: a million numbers are in between. Who knows how
/// many pages there are may stop when so many were found. Until then nothing is left out, whatever the guest looks like.
public struct FrameWalk {
    /// Those that were not given yet, in their order: what is at the front is next.
    private var parts: [Range<Int>]

    /// Where something begins: Xen's special pages and the ioreq pages before them (libxenguest), the ACPI tables of a PVH
    /// guest and hvmloader's, memory, memory above 4 GiB, the screen's memory and the end of low memory, firmware.
    private static let firstParts = [
        0xFEE00..<0xFF000, 0xFC000..<0xFEE00, 0..<0xF0000, 0x10_0000..<Int.max, 0xF0000..<0xFC000, 0xFF000..<0x10_0000,
    ]

    /// - Parameter frameCount: the guest's frame numbers, from 0.
    public init(frameCount: Int) {
        parts = Self.firstParts.map { $0.clamped(to: 0..<frameCount) }.filter { !$0.isEmpty }
    }

    public var isDone: Bool { parts.isEmpty }

    /// The next numbers, each one more than that before it.
    ///
    /// - Returns: how many; 0 at the end.
    public mutating func next(into frames: UnsafeMutableBufferPointer<UInt64>) -> Int {
        guard let part = parts.first else { return 0 }
        let batch = part.prefix(frames.count)
        for (index, frame) in batch.enumerated() { frames[index] = UInt64(frame) }
        if batch.endIndex == part.upperBound {
            parts.removeFirst()
        } else {
            parts[0] = batch.endIndex..<part.upperBound
        }
        return batch.count
    }

    /// The last numbers had nothing, so those behind them are not likely to have more: it is another part's turn.
    public mutating func foundNothing() {
        if !parts.isEmpty { parts.append(parts.removeFirst()) }
    }
}
