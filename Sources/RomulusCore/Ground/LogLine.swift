/// One line for the admin.
public enum LogLine: Equatable, Sendable {
    case note(String)
    case warning(String)
    case error(String)

    public var text: String {
        switch self {
        case .note(let text), .warning(let text), .error(let text): text
        }
    }
}
