import CLinux
import Glibc
import RomulusCore

/// Where a session hears the admin's word: a socket under /run/romulus, which only root can enter. One message asks, one
/// line answers.
public final class AdminSocket {
    public enum Request: String, Sendable, CaseIterable {
        case resume
        case yield
        /// Answered with one object of JSON.
        case status

        /// nil where nothing is decided by it.
        public var word: AdminWord? {
            switch self {
            case .resume: .resume
            case .yield: .yield
            case .status: nil
            }
        }
    }

    static let longestBytes = 16 << 10
    private let listener: Descriptor
    private let path: String
    private var client: Int32 = -1

    /// - Parameter name: as of the session's `RunLock`, which is held, so that a socket found there is a dead one's.
    public init(name: String, directory: String = RunLock.directory) throws(SystemError) {
        path = Self.path(name, directory)
        unlink(path)
        listener = try Descriptor.packetSocket()
        let code = try withAddress(path) { address, length in bind(listener.raw, address, length) }
        guard code == 0, listen(listener.raw, 4) == 0 else { throw SystemError("listen on \(path)") }
        _ = DescriptorIO.setNonBlocking(listener.raw)
    }

    deinit {
        hangUp()
        unlink(path)
    }

    /// What to wait for: a caller, or the caller's message.
    public var descriptor: Int32 { client >= 0 ? client : listener.raw }

    /// Does not block. A caller that says nothing useful is told so here.
    public func receive() -> Request? {
        if client < 0 {
            client = accept(listener.raw, nil, nil)
            if client >= 0 { DescriptorIO.setCloseOnExec(client, true) }
            return nil
        }
        var bytes = [UInt8](repeating: 0, count: Self.longestBytes)
        let count = recv(client, &bytes, bytes.count, romulus_do_not_wait)
        if count < 0, errno == EAGAIN || errno == EINTR { return nil }
        guard count > 0, let request = Request(rawValue: String(decoding: bytes.prefix(count), as: UTF8.self)) else {
            if count > 0 { answer("not understood") } else { hangUp() }
            return nil
        }
        return request
    }

    public func answer(_ text: String) {
        let bytes = Array(text.utf8.prefix(Self.longestBytes))
        _ = send(client, bytes, bytes.count, Int32(MSG_NOSIGNAL) | romulus_do_not_wait)
        hangUp()
    }

    private func hangUp() {
        if client >= 0 { close(client) }
        client = -1
    }

    private static func path(_ name: String, _ directory: String) -> String {
        "\(directory)/\(RunLock.fileName(name)).sock"
    }

    // MARK: The other end

    /// The names of all sessions on this host (`RunLock.name`), as far as their sockets tell; one of them may be a dead one's.
    public static func names(directory: String = RunLock.directory) -> [String] {
        guard let entries = opendir(directory) else { return [] }
        defer { closedir(entries) }
        var names: [String] = []
        while let entry = readdir(entries) {
            let name = withUnsafeBytes(of: entry.pointee.d_name) {
                String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
            }
            if name.hasSuffix(".sock") { names.append(String(name.dropLast(5))) }
        }
        return names.sorted()
    }

    /// - Returns: nil where no session of that name listens.
    public static func ask(
        _ request: Request, of name: String, directory: String = RunLock.directory
    ) throws(SystemError) -> String? {
        let socket = try Descriptor.packetSocket()
        let raw = socket.raw
        let code = try withAddress(path(name, directory)) { address, length in connect(raw, address, length) }
        if code != 0 {
            if errno == ENOENT || errno == ECONNREFUSED { return nil }
            throw SystemError("connect")
        }
        let bytes = Array(request.rawValue.utf8)
        guard send(raw, bytes, bytes.count, Int32(MSG_NOSIGNAL)) == bytes.count else { throw SystemError("send") }
        var polls = PollSet()
        polls.add(raw, reading: true)
        polls.wait(until: .now + .nanoseconds(milliseconds: 5000))
        guard polls.isReady(0) else { throw SystemError("waiting for the session", code: ETIMEDOUT) }
        var answer = [UInt8](repeating: 0, count: longestBytes)
        let count = recv(raw, &answer, answer.count, 0)
        guard count > 0 else { throw SystemError("recv", code: count < 0 ? errno : ECONNRESET) }
        return String(decoding: answer.prefix(count), as: UTF8.self)
    }
}

private func withAddress(
    _ path: String, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Int32
) throws(SystemError) -> Int32 {
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    let bytes = Array(path.utf8)
    guard bytes.count < MemoryLayout.size(ofValue: address.sun_path) else {
        throw SystemError("socket \(path)", code: ENAMETOOLONG)
    }
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
    return withUnsafePointer(to: &address) { pointer in
        pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
            body($0, socklen_t(MemoryLayout<sockaddr_un>.size))
        }
    }
}
