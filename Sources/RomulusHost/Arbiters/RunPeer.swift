import Glibc

/// The other host of a run, as far as this one knows it.
public struct RunPeer: Equatable, Sendable {
    /// What the admin calls it here; none on the backup.
    public var name: String?
    public var connection: PeerConnection?

    /// - Parameter name: as `xl remus` was given it.
    public init(name: String?, connection: PeerConnection?) {
        self.name = name.map { String(($0.split(separator: "@").last ?? "")).lowercased() }
        self.connection = connection
    }

    /// For an arbiter that does not mind.
    public static let nobody = RunPeer(name: nil, connection: nil)

    /// Of a process that sshd has started for the other host.
    public static func ofReceiver() -> RunPeer {
        RunPeer(
            name: nil,
            connection: getenv("SSH_CONNECTION").flatMap { PeerConnection(sshConnection: String(cString: $0)) })
    }
}

extension RunPeer: CustomStringConvertible {
    public var description: String { name ?? connection.map { "\($0.peer)" } ?? "the other host" }
}

/// The two ends of the connection that carries a run. Both hosts see the same two, where nobody between them translates
/// addresses.
public struct PeerConnection: Equatable, Sendable {
    public var own: HostAddress
    public var peer: HostAddress

    public init(own: HostAddress, peer: HostAddress) {
        self.own = own
        self.peer = peer
    }

    /// As the other end has it.
    public var reversed: PeerConnection { PeerConnection(own: peer, peer: own) }

    /// What sshd tells whom it serves: the client's address and port, and the server's.
    public init?(sshConnection: String) {
        let words = sshConnection.split(separator: " ")
        guard words.count == 4, let client = HostAddress(words[0]), let server = HostAddress(words[2]) else {
            return nil
        }
        self.init(own: server, peer: client)
    }

    /// Of a process that has one TCP connection, as ssh has; nil where it has none, or several.
    public init?(pid: Int32) {
        let sockets = Self.sockets(of: pid)
        let found = ["tcp", "tcp6"].flatMap { table in
            ((try? FileContents.read("/proc/\(pid)/net/\(table)", limitBytes: 4 << 20)) ?? [])
                .split(separator: UInt8(ascii: "\n")).compactMap { Self.established($0, among: sockets) }
        }
        guard let first = found.first, found.allSatisfy({ $0 == first }) else { return nil }
        self = first
    }

    private static func sockets(of pid: Int32) -> Set<String> {
        guard let folder = opendir("/proc/\(pid)/fd") else { return [] }
        defer { closedir(folder) }
        var found: Set<String> = []
        while let entry = readdir(folder) {
            let name = withUnsafeBytes(of: entry.pointee.d_name) {
                String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
            }
            var target = [CChar](repeating: 0, count: 64)
            let count = readlink("/proc/\(pid)/fd/\(name)", &target, target.count)
            guard count > 0 else { continue }
            let text = String(decoding: target.prefix(count).map { UInt8(bitPattern: $0) }, as: UTF8.self)
            if text.hasPrefix("socket:["), text.hasSuffix("]") { found.insert(String(text.dropFirst(8).dropLast())) }
        }
        return found
    }

    /// A line of proc(5)'s table: number, own end, other end, state, …, and as the tenth word the socket.
    static func established(_ line: ArraySlice<UInt8>, among sockets: Set<String>) -> PeerConnection? {
        let words = String(decoding: line, as: UTF8.self).split(separator: " ")
        guard words.count > 9, words[3] == "01", sockets.contains(String(words[9])), let own = address(words[1]),
            let peer = address(words[2])
        else { return nil }
        return PeerConnection(own: own, peer: peer)
    }

    /// Words of this machine's byte order, each of four octets in the network's.
    private static func address(_ end: Substring) -> HostAddress? {
        guard let digits = end.split(separator: ":").first.map(Array.init), digits.count % 8 == 0 else { return nil }
        var bytes: [UInt8] = []
        for start in stride(from: 0, to: digits.count, by: 8) {
            guard let word = UInt32(String(digits[start..<start + 8]), radix: 16) else { return nil }
            bytes += withUnsafeBytes(of: word) { Array($0) }
        }
        return HostAddress(bytes: bytes)
    }
}
