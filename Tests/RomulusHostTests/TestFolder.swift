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

/// Debian's etcd on a free port of loopback, with a folder of its own.
final class TestEtcd: Sendable {
    private let folder = TestFolder()
    private let pid: pid_t
    let endpoint: String

    init() {
        let port = Self.freePort()
        let peer = Self.freePort()
        endpoint = "http://127.0.0.1:\(port)"
        let peers = "http://127.0.0.1:\(peer)"
        let command = [
            "exec etcd --data-dir \(folder("data")) --listen-client-urls \(endpoint) --advertise-client-urls \(endpoint)",
            "--listen-peer-urls \(peers) --initial-advertise-peer-urls \(peers) --initial-cluster default=\(peers)",
        ].joined(separator: " ")
        // The shell tells the pid that etcd keeps, and goes.
        let started = Subprocess.run(
            ["/bin/sh", "-c", "(\(command)) >\(folder("log")) 2>&1 </dev/null & echo $!"], timeoutMilliseconds: 5000)
        pid = pid_t(started.output.filter(\.isNumber)) ?? 0
        let etcd = Etcd(endpoints: [endpoint], options: [], timeoutMilliseconds: 1000)
        for _ in 0..<100 {
            if (try? etcd.get("romulus/ready")) != nil || (try? etcd.grantLease(seconds: 2)) != nil { return }
            usleep(100_000)
        }
    }

    deinit { if pid > 1 { kill(pid, SIGKILL) } }

    func setStopped(_ isStopped: Bool) { kill(pid, isStopped ? SIGSTOP : SIGCONT) }

    private static func freePort() -> UInt16 {
        let probe = Descriptor(owning: socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0))
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let raw = probe.raw
        withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                _ = bind(raw, $0, length)
                _ = getsockname(raw, $0, &length)
            }
        }
        return UInt16(bigEndian: address.sin_port)
    }
}
