import Glibc
import RomulusCore
import Testing

@testable import RomulusHost

/// A domain that a stock migration is filling is not an old replica.
@Suite struct OtherReceiversTests {
    private let folder = TestFolder()

    private func process(_ id: Int, _ words: [String], files: [String] = []) throws {
        mkdir(folder("\(id)"), 0o755)
        mkdir(folder("\(id)/fd"), 0o755)
        try folder.write("\(id)/cmdline", words.map { $0 + "\0" }.joined())
        for (number, file) in files.enumerated() { symlink(file, folder("\(id)/fd/\(number)")) }
    }

    private var areThere: Bool { OtherReceivers.areThere(proc: folder.path, locks: "/run/romulus") }

    @Test func aReceiverWithoutALockIsAnother() throws {
        try process(1, ["/sbin/init"])
        try process(7, ["sshd: root@notty"])
        try process(8, ["sh", "-c", "xl migrate-receive -r"])
        try process(9, ["xl", "migrate-receive", "-r"], files: ["/dev/null", "/run/romulus/1-2.backup.lock"])
        #expect(!areThere)
        try process(10, ["/usr/sbin/xl", "migrate-receive"], files: ["/dev/null"])
        #expect(areThere)
    }

    @Test func whereNothingCanBeSeenThereMayBeOne() {
        #expect(OtherReceivers.areThere(proc: folder("missing")))
    }
}
