/// When the first copy, which the guest writes under, is good enough for the guest to be suspended.
public struct LivePolicy {
    public private(set) var round = 0
    /// That this round copies.
    public private(set) var pages: Int
    private var pagesBefore = Int.max

    static let longestRounds = 5
    static let fewPages = 50

    /// - Parameter pages: the guest's.
    public init(pages: Int) { self.pages = pages }

    /// After a round: whether another one pays. It does not where the next would be short in any case, nor where the guest
    /// writes about as fast as it is copied.
    public var goesOn: Bool {
        round < Self.longestRounds && pages >= Self.fewPages && (round < 2 || pages < pagesBefore / 4 * 3)
    }

    /// - Parameter pages: those that were written during the last one.
    public mutating func roundBegins(pages: Int) {
        pagesBefore = self.pages
        self.pages = pages
        round += 1
    }
}
