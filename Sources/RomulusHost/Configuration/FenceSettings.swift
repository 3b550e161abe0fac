/// `fence_options.HOST`.
public struct FencePeerSettings: Equatable, Sendable {
    /// HOST, as it stands in the file.
    public var key: String
    public var options: [String]

    /// A key has no hyphens, and a host's name no underscores.
    var host: String { String(key.map { $0 == "_" ? "-" : $0 }) }
}

/// Which of two hosts turns the other one off at once when both would; the other one waits.
public enum FenceOrder: String, Equatable, Sendable, CaseIterable {
    case first
    case second
}
