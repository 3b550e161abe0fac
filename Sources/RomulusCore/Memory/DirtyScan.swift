/// Walks a log-dirty bitmap 64 pages at a time: page n is bit n % 64 of word n / 64.
public struct DirtyScan {
    private let words: UnsafePointer<UInt64>
    private let pageCount: Int
    private var word = -1
    /// The present word's pages that were not given yet.
    private var left: UInt64 = 0

    /// - Parameter words: room for `pageCount` bits, in whole words; the caller's for the scan's life.
    public init(words: UnsafePointer<UInt64>, pageCount: Int) {
        self.words = words
        self.pageCount = pageCount
    }

    /// The next dirty page; nil at the end.
    public mutating func next() -> Int? {
        var page: UInt64 = 0
        return withUnsafeMutablePointer(to: &page) { next(into: .init(start: $0, count: 1)) } > 0 ? Int(page) : nil
    }

    /// The next dirty pages in their order, as many as there is room for.
    ///
    /// - Returns: how many; 0 at the end.
    public mutating func next(into pages: UnsafeMutableBufferPointer<UInt64>) -> Int {
        let wordCount = (pageCount + 63) / 64
        var count = 0
        while count < pages.count {
            while left == 0 {
                word += 1
                guard word < wordCount else {
                    word = wordCount - 1
                    return count
                }
                left = words[word]
                // The bits behind the last page mean nothing.
                if word == wordCount - 1, pageCount % 64 != 0 { left &= (1 << UInt64(pageCount % 64)) - 1 }
            }
            pages[count] = UInt64(word * 64 + left.trailingZeroBitCount)
            left &= left - 1
            count += 1
        }
        return count
    }
}
