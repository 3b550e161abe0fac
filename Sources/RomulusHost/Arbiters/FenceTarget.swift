import Glibc
import RomulusCore

/// How a run's peer is turned off, and which of the two hosts goes first.
public struct FenceTarget: Equatable, Sendable {
    /// A name for the peer that is the same for all guests that have it.
    public var peer: String
    public var options: [String]
    public var order: FenceOrder
}

extension Configuration {
    /// What the file says of this peer, or why a run with it is not begun.
    ///
    /// A rule by host, and not by role: two hosts may protect each other's guests. Nothing is guessed: an agent that turns a
    /// third host off would be taken for the proof that the other copy is gone.
    public func fenceTarget(
        of peer: RunPeer, resolve: (String) -> [HostAddress] = HostAddress.resolved, bound: BoundPeer = BoundPeer()
    ) throws(ArbiterError) -> FenceTarget {
        let (name, options) = try fenceOptions(of: peer, resolve, bound)
        guard let order = fenceOrder ?? Self.order(of: peer.connection) else {
            throw ArbiterError(
                "it is not known which of the two hosts goes first when both would turn the other one off: set fence_order"
                    + " = \"first\" in /etc/xen/romulus.conf on one of them and \"second\" on the other")
        }
        return FenceTarget(peer: name, options: options, order: order)
    }

    private static func order(of connection: PeerConnection?) -> FenceOrder? {
        guard let connection, connection.own != connection.peer else { return nil }
        return connection.own < connection.peer ? .first : .second
    }

    private func fenceOptions(
        of peer: RunPeer, _ resolve: (String) -> [HostAddress], _ bound: BoundPeer
    ) throws(ArbiterError) -> (String, [String]) {
        guard !fencePeers.isEmpty else {
            if let address = peer.connection?.peer, let other = bound.other(than: address) {
                throw ArbiterError(
                    "fence_options is for two hosts, and this one has had \(other) beside it before \(address): name the hosts,"
                        + " fence_options.HOST for each, in /etc/xen/romulus.conf")
            }
            return ("other", fenceOptions)
        }
        let found = fencePeers.filter { settings in
            if settings.key == peer.name || settings.host == peer.name { return true }
            guard let address = peer.connection?.peer else { return false }
            return HostAddress(settings.host) == address || resolve(settings.host).contains(address)
        }
        let address = peer.connection.map { " (\($0.peer))" } ?? ""
        guard let first = found.first else {
            let known = fencePeers.map { "fence_options.\($0.key)" }.joined(separator: ", ")
            throw ArbiterError(
                "/etc/xen/romulus.conf does not say how \(peer)\(peer.name == nil ? "" : address) is turned off (it has"
                    + " \(known)): add fence_options.HOST, HOST being its name or address")
        }
        guard found.allSatisfy({ $0.options == first.options }) else {
            let names = found.map { "fence_options.\($0.key)" }.joined(separator: " and ")
            throw ArbiterError("\(names) are of the same host, \(peer)\(address), and differ: correct one of them")
        }
        return (first.key, first.options)
    }
}

/// Whom `fence_options` without a name has been used with since this host booted.
public struct BoundPeer: Sendable {
    private let path: String

    public init(directory: String = RunLock.directory) { path = "\(directory)/fence-peer" }

    /// Another host than that.
    func other(than address: HostAddress) -> HostAddress? {
        guard let text = try? FileContents.read(path, limitBytes: 128),
            let known = HostAddress(String(decoding: text, as: UTF8.self)), known != address
        else { return nil }
        return known
    }

    /// From now on, where none is known.
    func bind(_ address: HostAddress) {
        let raw = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard raw >= 0 else { return }
        let file = Descriptor(owning: raw)
        let text = Array("\(address)".utf8)
        _ = write(file.raw, text, text.count)
    }
}
