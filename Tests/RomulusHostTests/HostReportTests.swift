import RomulusCore
import Testing

@testable import RomulusCheck
@testable import RomulusHost

@Suite struct HostReportTests {
    private func read(_ text: String) throws(ReportError) -> HostReport {
        try HostReport(lines: text.split(separator: "\n").map(String.init).filter { $0 != "end" })
    }

    private func readBack(_ report: HostReport) throws -> HostReport {
        let lines = report.text.split(separator: "\n").map(String.init)
        #expect(lines.first == "romulus-report 1" && lines.last == "end")
        return try HostReport(lines: Array(lines.dropFirst().dropLast()))
    }

    @Test func whatOneHostSaysTheOtherReads() throws {
        #expect(try readBack(.good) == .good)
        let bad = HostReport(
            version: "0", activation: .absent, xen: .unknown("no Xen: boot it"),
            moduleProblems: ["no module ifb: install it", "and another"], settings: .unknown("romulus.conf:3: bad"),
            dom0AvailableKiB: nil)
        #expect(try readBack(bad) == bad)
        let full = HostReport.good.set({
            $0.arbiter = .fence
            $0.arbiterTest = [.ok("one"), .problem("two: do it")]
            $0.epochLimitMiB = 7
            $0.pageCacheMiB = 9
            $0.stagingMiB = 11
            $0.fenceOrder = .second
        }).with {
            $0.sessionsKiB = 5
            $0.connection = PeerConnection(sshConnection: "10.0.0.1 51234 fd00::2 22")
        }
        #expect(try readBack(full) == full)
    }

    @Test func aTextStaysOneLineOfBoundedLength() throws {
        let report = HostReport.good.with {
            $0.moduleProblems = ["two\nlines\u{1B}[2J", String(repeating: "ü", count: 5000)]
        }
        #expect(report.text.split(separator: "\n").allSatisfy { $0.utf8.count <= 1024 })
        let problems = try readBack(report).moduleProblems
        #expect(problems[0] == "two lines [2J" && problems[1].utf8.count > 900)
    }

    @Test func aReportThatLacksSomethingOrHasNoUsableValueIsRefused() {
        let text = HostReport.good.text
        for (line, error) in [
            ("version 1.2.3\n", ReportError.missing("version")), ("activation active\n", .missing("activation")),
            ("free-kib 4194304\n", .missing("free-kib")), ("arbiter lease\n", .missing("arbiter")),
            ("detect-timeout-ms 1000\n", .missing("detect-timeout-ms")),
        ] {
            #expect(text.contains(line))
            #expect(throws: error) { try read(text.replacing(line, with: "")) }
        }
        for (line, wrong, key) in [
            ("free-kib 4194304", "free-kib -1", "free-kib"),
            ("free-kib 4194304", "free-kib 99999999999999999", "free-kib"),
            ("detect-timeout-ms 1000", "detect-timeout-ms 9000000000000", "detect-timeout-ms"),
            ("arbiter lease", "arbiter lease\nepoch-limit-mib 9999999", "epoch-limit-mib"),
            ("arbiter lease", "arbiter lease\npage-cache-mib 9999999", "page-cache-mib"),
            ("shadow no", "shadow perhaps", "shadow"), ("activation active", "activation of", "activation"),
            ("arbiter lease", "arbiter quorum", "arbiter"),
        ] {
            #expect(throws: ReportError.badValue(key)) { try read(text.replacing(line, with: wrong)) }
        }
    }

    @Test func linesThatMayRepeatAreBoundedAndUnknownOnesAreANewerVersions() throws {
        let many = String(repeating: "module-problem x\n", count: 33)
        #expect(throws: ReportError.tooManyLines("module-problem")) { try read(many + HostReport.good.text) }
        #expect(try read("colour blue\n\n \n" + HostReport.good.text) == .good)
    }
}

extension String {
    /// The first one.
    fileprivate func replacing(_ part: String, with other: String) -> String {
        guard let place = firstRange(of: part) else { return self }
        return String(self[..<place.lowerBound]) + other + String(self[place.upperBound...])
    }
}
