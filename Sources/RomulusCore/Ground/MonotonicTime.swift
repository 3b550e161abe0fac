/// A moment on one host's monotonic clock. Moments of two hosts are never compared.
public struct MonotonicTime: Comparable, Hashable, Sendable {
    public var nanoseconds: Int64
    public init(nanoseconds: Int64) { self.nanoseconds = nanoseconds }

    public static func < (one: Self, other: Self) -> Bool { one.nanoseconds < other.nanoseconds }
    public static func + (time: Self, durationNanoseconds: Int64) -> Self {
        Self(nanoseconds: time.nanoseconds + durationNanoseconds)
    }
    /// Nanoseconds from `earlier` to `later`.
    public static func - (later: Self, earlier: Self) -> Int64 { later.nanoseconds - earlier.nanoseconds }
}

extension Int64 {
    public static func nanoseconds(milliseconds: Int) -> Int64 { Int64(milliseconds) * 1_000_000 }
    public var inMilliseconds: Int { Int(self / 1_000_000) }
}
