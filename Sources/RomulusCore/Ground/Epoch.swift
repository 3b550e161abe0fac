/// The number of a checkpoint: 1 is the first complete one, with which protection begins.
public struct Epoch: RawRepresentable, Comparable, Hashable, Sendable {
    public let rawValue: UInt64
    public init(rawValue: UInt64) { self.rawValue = rawValue }

    /// Before the first complete checkpoint.
    public static let none = Epoch(rawValue: 0)

    public var next: Epoch { Epoch(rawValue: rawValue &+ 1) }
    public static func < (one: Self, other: Self) -> Bool { one.rawValue < other.rawValue }
}
