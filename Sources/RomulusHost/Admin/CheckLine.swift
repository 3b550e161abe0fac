/// One thing that an admin had looked at. The text of a problem also says what to do.
public struct CheckLine: Equatable, Sendable, CustomStringConvertible {
    public var text: String
    public var isProblem: Bool

    public init(text: String, isProblem: Bool) {
        self.text = text
        self.isProblem = isProblem
    }

    package static func ok(_ text: String) -> CheckLine { CheckLine(text: text, isProblem: false) }
    package static func problem(_ text: String) -> CheckLine { CheckLine(text: text, isProblem: true) }

    public var description: String { (isProblem ? "problem  " : "ok       ") + text }
}
