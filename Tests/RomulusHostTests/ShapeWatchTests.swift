import Glibc
import RomulusCore
import Synchronization
import Testing

@testable import RomulusHost

@Suite struct ShapeWatchTests {
    private static let shape = GuestShape(
        devices: ["vif 0", "vbd 51712"], processors: [0: true, 1: false], mostMemoryKiB: 1024)

    @Test func whatAReplicaLacksIsSaid() {
        func lack(_ change: (inout GuestShape) -> Void) -> String? {
            var now = Self.shape
            change(&now)
            return Self.shape.lack(comparedTo: now)
        }
        #expect(lack { _ in } == nil)
        #expect(lack { $0.devices.insert("vif 1") } == "vif 1 has come")
        #expect(lack { $0.devices.formUnion(["vif 1", "vbd 51728"]) } == "vbd 51728, vif 1 have come")
        #expect(lack { $0.processors[1] = true } == "processor 1 was plugged in or out")
        #expect(lack { $0.processors[0] = false } == "processor 0 was plugged in or out")
        #expect(lack { $0.mostMemoryKiB = 2048 } == "it may have more memory now")
        #expect(lack { $0.devices = [] } == nil, "as while it is being destroyed")
        #expect(lack { $0.processors = [:] } == nil)
        #expect(lack { $0.mostMemoryKiB = 512 } == nil)
    }

    @Test func aGuestThatGrowsIsTold() throws {
        let looks = Atomic(0)
        let now = Mutex<GuestShape?>(nil)
        let watch = try ShapeWatch(intervalNanoseconds: 1_000_000) {
            looks.wrappingAdd(1, ordering: .relaxed)
            return now.withLock { $0 }
        }
        func lack(of shape: GuestShape?) -> String? {
            now.withLock { $0 = shape }
            let first = looks.load(ordering: .relaxed)
            while watch.lack == nil, looks.load(ordering: .relaxed) < first + 3 { usleep(1000) }
            return watch.lack
        }
        func shape(_ devices: Set<String>) -> GuestShape {
            GuestShape(devices: devices, processors: [:], mostMemoryKiB: 0)
        }
        // What cannot be told is not what the replica has.
        #expect(lack(of: nil) == nil)
        #expect(lack(of: shape(["vif 0"])) == nil)
        #expect(lack(of: shape([])) == nil)
        #expect(lack(of: shape(["vif 0", "vif 1"])) == "vif 1 has come")
        watch.close()
    }
}
