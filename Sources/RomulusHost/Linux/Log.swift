import CLinux
import Glibc
import RomulusCore
import Synchronization

/// Lines for the admin: to standard error, where xl's own messages go, to the system's log, and to the file of events.
///
/// On the backup, standard error is an ssh connection that a power cut takes away; there the logs are what stays.
public struct Log: Sendable {
    private let guest: String
    private let speaker: String
    private let events: EventFile?
    private let newest = Newest()

    private final class Newest: Sendable {
        let event = Mutex<Event?>(nil)
    }

    /// - Parameters:
    ///   - guest: the guest's name; empty where there is none yet.
    ///   - role: what a reader is to know of who speaks, as in "backup".
    public init(guest: String, role: String = "", events: EventFile? = nil) {
        self.guest = Self.cleaned(guest)
        speaker = role.isEmpty ? self.guest : "\(self.guest) (\(role))"
        self.events = events
    }

    /// What was said last.
    public var newestEvent: Event? { newest.event.withLock { $0 } }

    public func note(_ text: String) { write(.note, text) }
    public func warning(_ text: String) { write(.warning, text) }
    public func error(_ text: String) { write(.error, text) }

    public func write(_ line: LogLine) {
        switch line {
        case .note(let text): note(text)
        case .warning(let text): warning(text)
        case .error(let text): error(text)
        }
    }

    private func write(_ level: Event.Level, _ text: String) {
        // A line is a line, whatever the other side put into a farewell.
        let clean = Self.cleaned(text)
        let prefix = speaker.isEmpty ? "romulus: " : "romulus: \(speaker): "
        let shown = prefix + (level == .note ? "" : "\(level.rawValue): ") + clean
        let line = Array("\(shown)\n".utf8)
        // One write per line, so that lines of several processes do not mix. Nobody may be listening any more.
        _ = line.withUnsafeBytes { Glibc.write(2, $0.baseAddress, $0.count) }
        romulus_syslog(Self.priority(level) | (3 << 3), shown)  // LOG_DAEMON is 3 << 3; the macro has a cast
        let event = Event(time: Int64(time(nil)), guest: guest, level: level, text: clean)
        newest.event.withLock { $0 = event }
        events?.append(event)
    }

    /// Without what moves a terminal's cursor or ends a line.
    static func cleaned(_ text: String) -> String {
        String(text.unicodeScalars.map { $0.value < 0x20 || (0x7F..<0xA0).contains($0.value) ? " " : Character($0) })
    }

    private static func priority(_ level: Event.Level) -> Int32 {
        switch level {
        case .note: LOG_INFO
        case .warning: LOG_WARNING
        case .error: LOG_ERR
        }
    }
}
