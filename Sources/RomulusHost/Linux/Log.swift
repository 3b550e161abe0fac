import CLinux
import Glibc
import RomulusCore

/// Lines for the admin: to standard error, where xl's own messages go, and to the system's log.
///
/// On the backup, standard error is an ssh connection that a power cut takes away; there the system's log is what stays.
public struct Log: Sendable {
    private let prefix: String

    public init(guest: String) {
        prefix = guest.isEmpty ? "romulus: " : "romulus: \(guest): "
    }

    public func note(_ text: String) { write(LOG_INFO, text) }
    public func warning(_ text: String) { write(LOG_WARNING, "warning: \(text)") }
    public func error(_ text: String) { write(LOG_ERR, "error: \(text)") }

    public func write(_ line: LogLine) {
        switch line {
        case .note(let text): note(text)
        case .warning(let text): warning(text)
        case .error(let text): error(text)
        }
    }

    private func write(_ priority: Int32, _ text: String) {
        // A line is a line, whatever the other side put into a farewell.
        let clean = String(text.unicodeScalars.map { $0.value < 0x20 || $0.value == 0x7F ? " " : Character($0) })
        let line = Array("\(prefix)\(clean)\n".utf8)
        // One write per line, so that lines of several processes do not mix. Nobody may be listening any more.
        _ = line.withUnsafeBytes { Glibc.write(2, $0.baseAddress, $0.count) }
        romulus_syslog(priority | (3 << 3), prefix + clean)  // LOG_DAEMON is 3 << 3; the macro has a cast
    }
}
