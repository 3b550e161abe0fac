import Glibc
import RomulusCore

/// etcd's version 3 API through its own command, `etcdctl`, which knows TLS, users and clusters.
struct Etcd: Sendable {
    let endpoints: [String]
    /// More of etcdctl's options, as they are.
    let options: [String]
    let timeoutMilliseconds: Int

    static let program = "etcdctl"

    struct Unreachable: Error, CustomStringConvertible {
        let description: String
    }

    func command(_ words: [String]) -> [String] {
        let seconds = "\(Double(timeoutMilliseconds) / 1000)s"
        return ["/usr/bin/env", "ETCDCTL_API=3", Self.program]
            + (endpoints.isEmpty ? [] : ["--endpoints=\(endpoints.joined(separator: ","))"])
            + ["--dial-timeout=\(seconds)", "--command-timeout=\(seconds)"] + options + words
    }

    private func run(
        _ words: [String], input: String = "", _ isCancelled: () -> Bool = { false }
    ) throws(Unreachable) -> [Substring] {
        let outcome = Subprocess.run(
            command(words), input: input, timeoutMilliseconds: 2 * timeoutMilliseconds + 1000, isCancelled: isCancelled)
        guard outcome.status == 0 else { throw Unreachable(description: outcome.complaint) }
        return outcome.output.split(separator: "\n", omittingEmptySubsequences: true)
    }

    /// - Returns: the lease's name, as etcdctl writes it.
    func grantLease(seconds: Int) throws(Unreachable) -> String {
        let words = try run(["lease", "grant", "\(seconds)"]).first?.split(separator: " ") ?? []
        guard words.count >= 3, words[0] == "lease", words[2].hasPrefix("granted") else {
            throw Unreachable(description: "`lease grant' was answered with `\(words.joined(separator: " "))'")
        }
        return String(words[1])
    }

    enum Condition {
        case absent
        case holds(String)
    }

    enum Change {
        case put(String, lease: String?)
        case delete
    }

    enum Result: Equatable {
        case changed
        /// The condition did not hold; what the key holds, nil where it is absent.
        case found(String?)
    }

    /// One transaction: both or neither. Keys and values are ours, and need no quoting but the quotes.
    func change(
        _ key: String, if condition: Condition, _ change: Change, isCancelled: () -> Bool = { false }
    ) throws(Unreachable) -> Result {
        let comparison =
            switch condition {
            case .absent: "version(\"\(key)\") = \"0\""
            case .holds(let value): "value(\"\(key)\") = \"\(value)\""
            }
        let action =
            switch change {
            case .put(let value, let lease): "put \(key) \"\(value)\"" + (lease.map { " --lease=\($0)" } ?? "")
            case .delete: "del \(key)"
            }
        let lines = try run(["txn"], input: "\(comparison)\n\n\(action)\n\nget \(key)\n\n", isCancelled)
        switch lines.first {
        case "SUCCESS": return .changed
        // The key's name, then what it holds.
        case "FAILURE": return .found(lines.count >= 3 ? String(lines[2]) : nil)
        default: throw Unreachable(description: "a transaction was answered with `\(lines.first ?? "")'")
        }
    }

    func get(_ key: String) throws(Unreachable) -> String? {
        let lines = try run(["get", key])
        return lines.count >= 2 ? String(lines[1]) : nil
    }
}
