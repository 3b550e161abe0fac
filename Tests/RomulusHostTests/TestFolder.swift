import Glibc
import RomulusCore

@testable import RomulusHost

/// A folder that disappears with the object.
final class TestFolder: Sendable {
    let path: String

    init() {
        var template = Array("/tmp/romulus-host-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { fatalError("mkdtemp: \(errno)") }
        path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    deinit { _ = Subprocess.run(["rm", "-rf", path], timeoutMilliseconds: 5000) }

    func callAsFunction(_ name: String) -> String { "\(path)/\(name)" }

    func write(_ name: String, _ text: String, mode: mode_t = 0o644) throws {
        let file = Descriptor(owning: open(self(name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode))
        let bytes = Array(text.utf8)
        guard Glibc.write(file.raw, bytes, bytes.count) == bytes.count else { throw SystemError("write") }
    }

    func read(_ name: String) -> String {
        Subprocess.run(["cat", self(name)], timeoutMilliseconds: 5000).output
            .split(separator: "\n").filter { !$0.contains("No such file") }.joined(separator: "\n")
    }
}
