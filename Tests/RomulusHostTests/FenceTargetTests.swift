import Glibc
import RomulusCore
import Testing

@testable import RomulusHost

/// Whom a host turns off, and which of two goes first.
@Suite struct FenceTargetTests {
    private let folder = TestFolder()
    private let names = ["xen-02": ["10.0.0.2", "fd00::2"], "hostc": ["10.0.0.3"]]

    private func load(_ text: String) throws(ConfigurationError) -> Configuration {
        try Configuration(
            file: ConfigurationFile(
                text: Array("arbiter = \"fence\"; fence_agent = \"fence_x\"\n\(text)".utf8), path: "romulus.conf"))
    }

    private func target(_ configuration: Configuration, _ peer: RunPeer) throws(ArbiterError) -> FenceTarget {
        try configuration.fenceTarget(
            of: peer, resolve: { (names[$0] ?? []).compactMap { HostAddress($0) } },
            bound: BoundPeer(directory: folder.path))
    }

    private func peer(_ name: String?, _ own: String, _ other: String) throws -> RunPeer {
        RunPeer(
            name: name,
            connection: PeerConnection(own: try #require(HostAddress(own)), peer: try #require(HostAddress(other))))
    }

    private let three = """
        fence_options.xen_02 = [ "plug=2" ]
        fence_options.10.0.0.3 = [ "plug=3" ]
        """

    @Test func ofSeveralTheOneOfThePeerIsTaken() throws {
        let configuration = try load(three)
        #expect(configuration.fencePeers.map(\.key) == ["xen_02", "10.0.0.3"])
        // As the admin calls it, and as it comes over the connection.
        #expect(try target(configuration, peer("root@Xen-02", "10.0.0.1", "10.9.0.2")).options == ["plug=2"])
        #expect(try target(configuration, peer(nil, "10.0.0.1", "10.0.0.2")).options == ["plug=2"])
        #expect(try target(configuration, peer("anything", "10.0.0.1", "10.0.0.3")).options == ["plug=3"])
        #expect(try target(configuration, peer(nil, "10.0.0.1", "10.0.0.2")).peer == "xen_02")
    }

    @Test func aPeerThatIsNotNamedAmongThemIsRefusedWithItsName() throws {
        let configuration = try load(three)
        for peer in [try peer("hostd", "10.0.0.1", "10.0.0.4"), try peer(nil, "10.0.0.1", "10.0.0.4")] {
            do {
                _ = try target(configuration, peer)
                Issue.record("another host's switch for \(peer)")
            } catch {
                #expect("\(error)".contains("how \(peer)") && "\(error)".contains("add fence_options.HOST"), "\(error)")
                #expect("\(error)".contains("10.0.0.4"))
            }
        }
        #expect(throws: ArbiterError.self) { try target(configuration, .nobody) }
    }

    @Test func twoNamesOfOneHostMustSayTheSame() throws {
        let both = "fence_options.xen_02 = [ \"plug=2\" ]\nfence_options.10.0.0.2 = [ \"plug=9\" ]"
        #expect(throws: ArbiterError.self) { try target(load(both), peer("xen-02", "10.0.0.1", "10.0.0.2")) }
        let same = both.replacing("9", with: "2")
        #expect(try target(load(same), peer("xen-02", "10.0.0.1", "10.0.0.2")).options == ["plug=2"])
    }

    @Test func withoutANameTheyAreForTheOneHostThatWasThereFirst() throws {
        let configuration = try load("fence_options = [ \"plug=b\" ]")
        let (b, c) = (try peer("hostb", "10.0.0.1", "10.0.0.2"), try peer("hostc", "10.0.0.1", "10.0.0.3"))
        #expect(try target(configuration, b).options == ["plug=b"])
        BoundPeer(directory: folder.path).bind(try #require(HostAddress("10.0.0.2")))
        #expect(try target(configuration, b).options == ["plug=b"])
        do {
            _ = try target(configuration, c)
            Issue.record("b would be turned off in place of c")
        } catch {
            #expect("\(error)".contains("10.0.0.2") && "\(error)".contains("fence_options.HOST"))
        }
    }

    @Test func bothAtOnceAreAnErrorOfTheFile() {
        do throws(ConfigurationError) {
            _ = try load("fence_options = [ \"plug=b\" ]\nfence_options.hostc = [ \"plug=c\" ]")
            Issue.record("both")
        } catch {
            #expect("\(error)".hasPrefix("romulus.conf:3: `fence_options.hostc' cannot stand beside"))
        }
    }

    /// The two ends of any connection, whichever host is the primary.
    @Test(arguments: [
        ("10.0.0.1", "10.0.0.2"), ("10.0.0.10", "10.0.0.9"), ("fd00::1", "10.0.0.2"), ("fd00::a", "fd00::1:0"),
    ])
    func ofTwoHostsOneGoesFirst(one: String, other: String) throws {
        let configuration = try load("fence_options = [ \"plug=x\" ]")
        let orders = [
            try target(configuration, peer("x", one, other)).order,
            try target(configuration, peer(nil, other, one)).order,
        ]
        #expect(Set(orders.map(\.rawValue)).count == 2)
    }

    @Test func whereTheAddressesDoNotTellTheFileMust() throws {
        let text = "fence_options = [ \"plug=x\" ]"
        #expect(throws: ArbiterError.self) { try target(load(text), .nobody) }
        #expect(throws: ArbiterError.self) { try target(load(text), peer("x", "10.0.0.1", "10.0.0.1")) }
        #expect(try target(load("\(text); fence_order = \"second\""), .nobody).order == .second)
        #expect(
            try target(load("\(text); fence_order = \"second\""), peer("x", "10.0.0.1", "10.0.0.2")).order == .second)
    }

    /// The agent of the first may take its whole time, and may be asked later by a timeout.
    @Test func theSecondWaitsForLongerThanTheAgentsTimeLimit() throws {
        #expect(try load("fence_timeout_ms = 5000; detect_timeout_ms = 700").fenceDelay == 6400)
        #expect(try load("fence_delay_ms = 4000").fenceDelay == 4000)
    }

    @Test func aConnectionIsKnownFromBothEnds() throws {
        let backup = try #require(PeerConnection(sshConnection: "10.0.0.1 51234 ::ffff:10.0.0.2 22"))
        #expect("\(backup.own) \(backup.peer)" == "10.0.0.2 10.0.0.1")
        #expect(PeerConnection(sshConnection: "UNKNOWN 65535 UNKNOWN 65535") == nil)
        func line(_ text: String) -> PeerConnection? {
            PeerConnection.established(Array(text.utf8)[...], among: ["77"])
        }
        let table = "   1: 0100000A:C822 0200000A:0016 01 00000000:00000000 00:00000000 00000000     0        0 77 1"
        #expect(line(table) == backup.reversed)
        #expect(
            line(table.replacing(" 01 ", with: " 06 ")) == nil && line(table.replacing(" 77 ", with: " 78 ")) == nil)
        let six = table.replacing("0200000A", with: "0000000000000000FFFF00000200000A").replacing(
            "0100000A", with: "0000000000000000FFFF00000100000A")
        #expect(line(six) == backup.reversed)
    }

    /// As `xl` looks at its ssh.
    @Test func aLivingConnectionIsFoundByItsProcess() throws {
        #expect(PeerConnection(pid: 1 << 22) == nil)
        #expect(HostAddress.resolved("127.0.0.1").map(\.description) == ["127.0.0.1"])
        #expect(HostAddress("fe80::1%eth0")?.description == "fe80::1" && HostAddress("hostb") == nil)
    }
}
