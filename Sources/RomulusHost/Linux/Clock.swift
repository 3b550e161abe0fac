import Glibc
import RomulusCore

extension MonotonicTime {
    /// CLOCK_BOOTTIME: monotonic, and it counts the time that the host itself was suspended, in which others did not wait.
    public static var now: MonotonicTime {
        var time = timespec()
        clock_gettime(CLOCK_BOOTTIME, &time)
        return MonotonicTime(nanoseconds: Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec))
    }
}
