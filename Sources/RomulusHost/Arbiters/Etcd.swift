import Glibc
import RomulusCore

/// etcd's version 3 API through its own command, `etcdctl`, which knows TLS, users and clusters.
struct Etcd: Sendable {
    let endpoints: [String]
    /// More of etcdctl's options, as they are.
    let options: [String]
    let timeoutMilliseconds: Int
    /// This process's environment, `NAME=value` each.
    var inherited = Etcd.ownEnvironment()

    static let program = "etcdctl"
    private static let prefix = "ETCDCTL_"
    /// What listing processes must not show, by etcdctl's own names for it.
    private static let secrets = ["--user", "--password"]

    struct Unreachable: Error, CustomStringConvertible {
        let description: String
    }

    func command(_ words: [String]) -> [String] {
        let seconds = "\(Double(timeoutMilliseconds) / 1000)s"
        return [Self.program]
            + (endpoints.isEmpty ? [] : ["--endpoints=\(endpoints.joined(separator: ","))"])
            + ["--dial-timeout=\(seconds)", "--command-timeout=\(seconds)"] + splitOptions.open + words
    }

    /// What etcdctl is started with: it refuses what it is told by an option and by its environment, so what is set there
    /// already goes. A password goes there, where only root can read it.
    var environment: [String] {
        inherited.filter { !$0.hasPrefix(Self.prefix) } + ["\(Self.prefix)API=3"] + splitOptions.hidden
    }

    /// Names that are set for nothing.
    var ignoredVariables: [String] {
        inherited.filter { $0.hasPrefix(Self.prefix) && !$0.hasPrefix("\(Self.prefix)API=") }
            .map { String($0.prefix { $0 != "=" }) }.sorted()
    }

    private var splitOptions: (open: [String], hidden: [String]) {
        var (open, hidden): ([String], [String]) = ([], [])
        var rest = options[...]
        while let option = rest.popFirst() {
            let name = String(option.prefix { $0 != "=" })
            guard Self.secrets.contains(name) else {
                open.append(option)
                continue
            }
            let value = option == name ? rest.popFirst() ?? "" : String(option.dropFirst(name.count + 1))
            hidden.append("\(Self.prefix)\(name.dropFirst(2).uppercased())=\(value)")
        }
        return (open, hidden)
    }

    private static func ownEnvironment() -> [String] {
        var found: [String] = []
        var next = environ
        while let text = next.pointee {
            found.append(String(cString: text))
            next += 1
        }
        return found
    }

    private func run(
        _ words: [String], input: String = "", _ isCancelled: () -> Bool = { false }
    ) throws(Unreachable) -> [Substring] {
        let outcome = Subprocess.run(
            command(words), input: input, environment: environment, isErrorApart: true,
            timeoutMilliseconds: 2 * timeoutMilliseconds + 1000, isCancelled: isCancelled)
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
        case absent(String)
        case holds(String, String)

        var key: String {
            switch self {
            case .absent(let key), .holds(let key, _): key
            }
        }
    }

    enum Change {
        case put(String, String, lease: String? = nil)
        case delete(String)
    }

    enum Result: Equatable {
        case changed
        /// A condition did not hold; what the conditions' keys hold, without those that are absent.
        case found([String: String])
    }

    /// One transaction: all of it or nothing. Keys and values are ours, and need no quoting but the quotes.
    func change(
        _ changes: [Change], if conditions: [Condition], isCancelled: () -> Bool = { false }
    ) throws(Unreachable) -> Result {
        let comparisons = conditions.map { condition in
            switch condition {
            case .absent(let key): "version(\"\(key)\") = \"0\"\n"
            case .holds(let key, let value): "value(\"\(key)\") = \"\(value)\"\n"
            }
        }
        let actions = changes.map { change in
            switch change {
            case .put(let key, let value, let lease):
                "put \(key) \"\(value)\"" + (lease.map { " --lease=\($0)" } ?? "") + "\n"
            case .delete(let key): "del \(key)\n"
            }
        }
        let questions = conditions.map { "get \($0.key)\n" }
        let input = [comparisons, actions, questions].map { $0.joined() + "\n" }.joined()
        let lines = try run(["txn"], input: input, isCancelled)
        switch lines.first {
        case "SUCCESS": return .changed
        case "FAILURE": return .found(Self.pairs(lines.dropFirst()))
        default: throw Unreachable(description: "a transaction was answered with `\(lines.first ?? "")'")
        }
    }

    func get(_ key: String) throws(Unreachable) -> String? {
        Self.pairs(try run(["get", key])[...])[key]
    }

    /// A key, then what it holds, and so on.
    private static func pairs(_ lines: ArraySlice<Substring>) -> [String: String] {
        var pairs: [String: String] = [:]
        var rest = lines
        while let key = rest.popFirst(), let value = rest.popFirst() { pairs[String(key)] = String(value) }
        return pairs
    }
}
