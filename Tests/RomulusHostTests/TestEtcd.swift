import Glibc
import RomulusCore
import Synchronization

@testable import RomulusHost

/// Debian's etcd on a free port of loopback, with a folder of its own.
final class TestEtcd: Sendable {
    private let folder = TestFolder()
    private let pid: pid_t
    private let shell: Mutex<Subprocess>
    let endpoint: String

    init() {
        let port = Self.freePort()
        let peer = Self.freePort()
        endpoint = "http://127.0.0.1:\(port)"
        let peers = "http://127.0.0.1:\(peer)"
        let command = [
            "etcd --data-dir \(folder("data")) --listen-client-urls \(endpoint) --advertise-client-urls \(endpoint)",
            "--listen-peer-urls \(peers) --initial-advertise-peer-urls \(peers) --initial-cluster default=\(peers)",
        ].joined(separator: " ")
        // The shell's standard input ends with this object, or with the tests' process however that ends.
        let keeping = "\(command) >\(folder("log")) 2>&1 & echo $!; read -r _; kill -9 $!; wait; rm -rf \(folder.path)"
        var pid: pid_t = 0
        do {
            var shell = try Subprocess(["/bin/sh", "-c", keeping])
            pid =
                pid_t(
                    String(decoding: shell.read(until: .now + 5_000_000_000) ?? [], as: UTF8.self)
                        .filter(\.isNumber)) ?? 0
            self.shell = Mutex(shell)
        } catch { fatalError("\(error)") }
        self.pid = pid
        let etcd = Etcd(endpoints: [endpoint], options: [], timeoutMilliseconds: 1000)
        for _ in 0..<100 {
            if (try? etcd.grantLease(seconds: 2)) != nil { return }
            usleep(100_000)
        }
    }

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
